// One operation on the reference and on every backend under test: how close the answers are, and which bits stay the
// same.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_OPERATION_CHECK_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_OPERATION_CHECK_H_

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tests/engine/backend/session.h"

namespace elserve {

// A unit is what must not depend on its company: a position, or a document of the encoder's attention. Its answer is
// the rows that the operation wrote for it, end to end.
using UnitOutputs = std::vector<std::vector<float>>;
// Runs one step of the chosen units, in their order, and returns their answers.
using Runner = std::function<UnitOutputs(std::span<const int> units)>;

// Errors are allowed up to a fraction of the row's greatest magnitude, or of `floor` where the row is smaller.
struct Tolerance {
  double float32 = 2e-5;
  double bfloat16 = 1.0 / 128;  // kState outputs: one rounding is 1/512, the rest is for rounded softmax weights
  double floor = 1.0;           // the size of the values that the operation sums or weighs
};

struct OperationCase {
  std::string name;
  int units = 0;
  int64_t cols = 0;  // of an output row
  Tolerance tolerance = {};
  bool int8 = false;  // of the backends that have int8 alone
  // Packs weights and allocates; called once a session.
  std::function<Runner(Session&)> load;
  // Steps to run beside that of all units in order.
  std::vector<std::vector<int>> batches = {};
};

// On each backend under test: all units are as the reference has them; a second run gives the same bits; so does each
// of `batches`, for each unit in it.
void CheckOperation(const OperationCase& operation);

// Random choices of 1, 2, 3, 5, 17, 63, 64 and 65 of `units`, each in random order; those that are not more than there
// are.
std::vector<std::vector<int>> RandomBatches(uint32_t seed, int units);

// A matrix's rows as answers of one row each.
UnitOutputs OneRowEach(std::span<const float> matrix, int64_t cols);

// "" where `actual` has the bits of `expected` (any NaN is like another), else the first difference.
std::string BitDifference(std::span<const float> expected, std::span<const float> actual);

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_OPERATION_CHECK_H_
