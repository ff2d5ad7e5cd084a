// The backends of this build that are compared with the reference.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_BACKENDS_UNDER_TEST_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_BACKENDS_UNDER_TEST_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/backend.h"

namespace elserve {

struct BackendUnderTest {
  std::string name;  // with precision and instruction set
  DataType state_type = DataType::kFloat32;
  bool biases_and_gates = true;  // adds biases to attention's scores, and computes gated products
  std::function<std::unique_ptr<Backend>()> make;
  size_t batches_every = 1;  // where all take too long: of an operation's batches the first and every so many-th
};

// cpu in every precision and every instruction set that this processor has, or the one that ELSERVE_ISA forces; cuda in
// every precision where there is a device; the reference itself, which checks the tests alone, where neither is built
// or can run.
const std::vector<BackendUnderTest>& BackendsUnderTest();

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_BACKENDS_UNDER_TEST_H_
