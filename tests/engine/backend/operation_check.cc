#include "tests/engine/backend/operation_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

#include "engine/backend/reference/reference_backend.h"
#include "tests/engine/backend/backends_under_test.h"

namespace elserve {
namespace {

// The first row of a unit that is further from the reference than the tolerance allows, or "".
std::string Distance(std::span<const float> expected, std::span<const float> actual, int64_t cols, double tolerance,
                     double floor) {
  if (expected.size() != actual.size()) return "sizes differ";
  for (size_t begin = 0; begin < expected.size(); begin += cols) {
    double scale = floor;
    for (int64_t j = 0; j < cols; ++j) scale = std::max<double>(scale, std::abs(expected[begin + j]));
    for (int64_t j = 0; j < cols; ++j) {
      const double error = std::abs(static_cast<double>(expected[begin + j]) - actual[begin + j]);
      if (error <= tolerance * scale) continue;  // false for NaN
      return "row " + std::to_string(begin / cols) + " column " + std::to_string(j) + ": expected " +
             std::to_string(expected[begin + j]) + ", got " + std::to_string(actual[begin + j]) + ", scale " +
             std::to_string(scale);
    }
  }
  return "";
}

void CheckBits(const UnitOutputs& all, const UnitOutputs& batch, std::span<const int> units) {
  ASSERT_EQ(batch.size(), units.size());
  for (size_t i = 0; i < units.size(); ++i) {
    ASSERT_EQ(BitDifference(all[units[i]], batch[i]), "")
        << "unit " << units[i] << " at place " << i << " of " << units.size();
  }
}

void CheckBackend(const OperationCase& operation, const BackendUnderTest& under_test, const UnitOutputs& expected) {
  SCOPED_TRACE(under_test.name);
  std::unique_ptr<Backend> backend = under_test.make();
  ASSERT_NE(backend, nullptr);
  if (operation.int8 && !backend->has_int8()) return;
  ASSERT_EQ(backend->state_type(), under_test.state_type);
  Session session(std::move(backend), under_test.state_type);
  const Runner run = operation.load(session);
  std::vector<int> all(operation.units);
  std::iota(all.begin(), all.end(), 0);

  const UnitOutputs actual = run(all);
  ASSERT_EQ(actual.size(), expected.size());
  const bool float32 = under_test.state_type == DataType::kFloat32;
  const double tolerance = float32 ? operation.tolerance.float32 : operation.tolerance.bfloat16;
  for (int unit : all) {
    ASSERT_EQ(Distance(expected[unit], actual[unit], operation.cols, tolerance, operation.tolerance.floor), "")
        << "unit " << unit;
  }
  {
    SCOPED_TRACE("the same step again");
    CheckBits(actual, run(all), all);
  }
  for (size_t i = 0; i < operation.batches.size(); i += under_test.batches_every) {
    CheckBits(actual, run(operation.batches[i]), operation.batches[i]);
  }
}

}  // namespace

std::string BitDifference(std::span<const float> expected, std::span<const float> actual) {
  if (expected.size() != actual.size()) return "sizes differ";
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::bit_cast<uint32_t>(expected[i]) == std::bit_cast<uint32_t>(actual[i])) continue;
    if (std::isnan(expected[i]) && std::isnan(actual[i])) continue;
    return "value " + std::to_string(i) + ": " + std::to_string(expected[i]) + " became " + std::to_string(actual[i]);
  }
  return "";
}

void CheckOperation(const OperationCase& operation) {
  SCOPED_TRACE(operation.name);
  std::vector<int> all(operation.units);
  std::iota(all.begin(), all.end(), 0);
  for (DataType precision : {DataType::kFloat32, DataType::kBFloat16}) {
    UnitOutputs expected;
    for (const BackendUnderTest& under_test : BackendsUnderTest()) {
      if (under_test.state_type != precision) continue;
      if (expected.empty()) {
        Session reference(MakeReferenceBackend(), precision);
        expected = operation.load(reference)(all);
      }
      CheckBackend(operation, under_test, expected);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

std::vector<std::vector<int>> RandomBatches(uint32_t seed, int units) {
  std::mt19937 engine(seed);
  std::vector<std::vector<int>> batches;
  std::vector<int> order(units);
  std::iota(order.begin(), order.end(), 0);
  for (int count : {1, 2, 3, 5, 17, 63, 64, 65}) {
    if (count > units) break;
    std::shuffle(order.begin(), order.end(), engine);
    batches.emplace_back(order.begin(), order.begin() + count);
  }
  return batches;
}

UnitOutputs OneRowEach(std::span<const float> matrix, int64_t cols) {
  UnitOutputs outputs;
  for (size_t begin = 0; begin < matrix.size(); begin += cols) {
    const auto row = matrix.subspan(begin, cols);
    outputs.emplace_back(row.begin(), row.end());
  }
  return outputs;
}

}  // namespace elserve
