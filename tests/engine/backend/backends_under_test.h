// The backends of this build that are compared with the reference.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_BACKENDS_UNDER_TEST_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_BACKENDS_UNDER_TEST_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/backend.h"

namespace elserve {

#ifndef ELSERVE_TEST_CUDA_EMULATED
#define ELSERVE_TEST_CUDA_EMULATED 0
#endif
// Whether the devices under test are cuda's emulated ones, which take long for little.
inline constexpr bool kEmulatedDevice = ELSERVE_TEST_CUDA_EMULATED;

struct BackendUnderTest {
  std::string name;  // with precision and instruction set
  DataType state_type = DataType::kFloat32;
  std::function<std::unique_ptr<Backend>()> make;
  size_t batches_every = 1;  // where all take too long: of an operation's batches the first and every so many-th
};

// cpu in every precision and every instruction set that this processor has, or the one that ELSERVE_ISA forces; cuda in
// every precision where there is a device; the reference itself, which checks the tests alone, where neither is built
// or can run.
const std::vector<BackendUnderTest>& BackendsUnderTest();
// Whether one of them is cuda, emulated or not.
bool CudaIsAmongBackends();

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_BACKENDS_UNDER_TEST_H_
