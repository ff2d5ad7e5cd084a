// What is approximated, on every backend that approximates: attention's weights, and the largest activations alone.
// Values are on a grid where a weight that is on either side of a limit would be another answer: there scores are equal
// on all backends, to the bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/reference/operations.h"
#include "tests/engine/backend/attention_world.h"
#include "tests/engine/backend/backends_under_test.h"
#include "tests/engine/backend/decode_world.h"
#include "tests/engine/backend/operation_check.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

constexpr AttentionShape kShapes[] = {{3, 8, 40}, {3, 24, 96}, {2, 160, 96}, {5, 64, 320}};
// Values on the grid are as large as 2.
constexpr Tolerance kTolerance = {.floor = 2.0};

struct NamedApproximation {
  const char* name;
  AttentionApproximation approximation;
};
constexpr NamedApproximation kApproximations[] = {
    {"top 1", {.top_k = 1}},
    {"top 7", {.top_k = 7}},
    {"top 64", {.top_k = 64}},
    {"pruned below 0.01", {.values = AttentionValues::kPruned, .threshold = 0.01f}},
    {"log3bit", {.values = AttentionValues::kLog3Bit, .threshold = 1e-3f}},
    {"top 20, pruned", {.top_k = 20, .values = AttentionValues::kPruned, .threshold = 0.02f}},
};

std::vector<DocumentSpec> MixedDocuments() {
  return {{.length = 1, .rows = 1, .history = 0},    {.length = 2, .rows = 2, .history = 1},
          {.length = 63, .rows = 3, .history = 1},   {.length = 64, .rows = 4, .history = 1},
          {.length = 65, .rows = 5, .history = 1},   {.length = 130, .rows = 8, .history = 4},
          {.length = 200, .rows = 17, .history = 2}, {.length = 20, .rows = 1, .history = 0, .new_positions = 3}};
}

TEST(BackendApproximation, Encoder) {
  const std::vector<int> lengths = {1, 200, 2, 64, 63, 130, 65, 17};
  bool biased = false;
  for (const AttentionShape& shape : kShapes) {
    for (const auto& [name, approximation] : kApproximations) {
      const EncoderCase encoder = {
          .biased = biased ? Bias::kSome : Bias::kNone, .values = Values::kGrid, .approximation = approximation};
      biased = !biased;
      CheckOperation({.name = NameOf(std::string("encoder attention, ") + name, MemoryOf(shape, kAllKv)),
                      .units = static_cast<int>(lengths.size()),
                      .cols = int64_t{shape.heads} * shape.head_dim,
                      .tolerance = kTolerance,
                      .load = [&](Session& session) { return LoadEncoder(session, shape, lengths, encoder); },
                      .batches = {{0}, {1}, {7, 6, 5, 4, 3, 2, 1, 0}, {6, 0, 4}}});
      if (HasFatalFailure()) return;
    }
    biased = !biased;  // of the next shape the other ones
  }
}

TEST(BackendApproximation, Cross) {
  const DecodeWorld world(60, MixedDocuments());
  bool biased = false;
  for (const AttentionForms forms : {kAllKv, kAllEl}) {
    for (const AttentionShape& attention : kShapes) {
      for (const auto& [name, approximation] : kApproximations) {
        const MemoryShape shape = MemoryOf(attention, forms);
        const CrossCase cross = {.stale = 1000.0f,
                                 .biased = biased ? Bias::kSome : Bias::kNone,
                                 .phase = biased ? Phase::kPrefill : Phase::kDecode,
                                 .values = Values::kGrid,
                                 .approximation = approximation,
                                 .totals = forms == kAllEl && approximation.loses_weight()};
        biased = !biased;
        CheckOperation({.name = NameOf(std::string("cross attention, ") + name, shape),
                        .units = static_cast<int>(world.positions().size()),
                        .cols = cross.totals ? 1 : QueryWidth(shape, shape.cross),
                        .tolerance = kTolerance,
                        .load = [&](Session& session) { return LoadCross(session, world, shape, cross); },
                        .batches = world.Batches(61)});
        if (HasFatalFailure()) return;
      }
      biased = !biased;  // of the next shape the other ones
    }
  }
}

// Pages that are given back may hold NaN behind a document's last token.
TEST(BackendApproximation, StaleNansBehindADocumentAreNotRead) {
  const DecodeWorld world(67, MixedDocuments());
  for (const AttentionForms forms : {kAllKv, kAllEl}) {
    const MemoryShape shape = MemoryOf({3, 24, 96}, forms);
    CheckOperation({.name = NameOf("cross attention, top 7", shape),
                    .units = static_cast<int>(world.positions().size()),
                    .cols = QueryWidth(shape, shape.cross),
                    .tolerance = kTolerance,
                    .load = [&](Session& session) {
                      return LoadCross(session, world, shape,
                                       {.stale = NAN, .values = Values::kGrid, .approximation = {.top_k = 7}});
                    }});
  }
}

std::vector<int> AllUnits(const DecodeWorld& world) {
  std::vector<int> units(world.positions().size());
  for (size_t i = 0; i < units.size(); ++i) units[i] = static_cast<int>(i);
  return units;
}

TEST(BackendApproximation, AsManyTokensAsThereAreAreTheExactResult) {
  const std::vector<int> lengths = {1, 100, 64};
  const DecodeWorld world(60, {{.length = 100, .rows = 3, .history = 1}, {.length = 64, .rows = 2, .history = 1}});
  for (const BackendUnderTest& under_test : BackendsUnderTest()) {
    SCOPED_TRACE(under_test.name);
    const auto expect_equal = [&](const std::vector<int>& units,
                                  const std::function<Runner(Session&, int top_k)>& load) {
      Session exact(under_test.make(), under_test.state_type), top(under_test.make(), under_test.state_type),
          fewer(under_test.make(), under_test.state_type);
      const UnitOutputs expected = load(exact, 0)(units);
      EXPECT_EQ(load(top, 100)(units), expected);
      EXPECT_NE(load(fewer, 99)(units), expected);
    };
    expect_equal({0, 1, 2}, [&](Session& session, int top_k) {
      return LoadEncoder(session, {3, 24, 96}, lengths, {.approximation = {.top_k = top_k}});
    });
    for (const AttentionForms forms : {kAllKv, kAllEl}) {
      const MemoryShape shape = MemoryOf({3, 24, 96}, forms);
      expect_equal(AllUnits(world), [&](Session& session, int top_k) {
        return LoadCross(session, world, shape, {.approximation = {.top_k = top_k}});
      });
    }
  }
}

// |o - o_dense| <= 2 eps max|v|, eps the weight that is left out.
TEST(BackendApproximation, TopKIsAsCloseAsTheWeightThatItLeavesOut) {
  constexpr int kTokens = 200, kWidth = 32;
  constexpr AttentionShape kShape = {1, kWidth, kWidth};
  for (const BackendUnderTest& under_test : BackendsUnderTest()) {
    for (const int top_k : {1, 4, 16, 64, 150}) {
      SCOPED_TRACE(under_test.name + ", top " + std::to_string(top_k));
      Session dense(under_test.make(), under_test.state_type), top(under_test.make(), under_test.state_type);
      const std::vector<int> units = {0};
      const std::vector<float> expected = LoadEncoder(dense, kShape, {kTokens})(units)[0];
      const std::vector<float> actual =
          LoadEncoder(top, kShape, {kTokens}, {.approximation = {.top_k = top_k}})(units)[0];
      const std::vector<float> qkv = EncoderValues(dense, kShape, 0, kTokens, Values::kNormal);
      const auto row = [&](int t, int part) { return &qkv[(int64_t{3} * t + part) * kWidth]; };
      float most = 0;
      for (int t = 0; t < kTokens; ++t) {
        for (int j = 0; j < kWidth; ++j) most = std::max(most, std::abs(row(t, 2)[j]));
      }
      const double rounding = (under_test.state_type == DataType::kFloat32 ? 1e-5 : 1.0 / 64) * most;
      double loosest = 0;
      for (int t = 0; t < kTokens; ++t) {
        std::vector<double> weights(kTokens);
        for (int k = 0; k < kTokens; ++k) weights[k] = reference::Dot(row(t, 0), row(k, 1), kWidth);
        reference::Weigh({}, weights);
        std::sort(weights.begin(), weights.end());
        double left_out = 0;
        for (int k = 0; k < kTokens - top_k; ++k) left_out += weights[k];
        const double bound = 2 * left_out * most;
        for (int j = 0; j < kWidth; ++j) {
          const double error = std::abs(actual[t * kWidth + j] - expected[t * kWidth + j]);
          ASSERT_LE(error, bound + rounding) << "row " << t << " column " << j;
          loosest = std::max(loosest, error / bound);
        }
      }
      // The bound says something.
      if (top_k <= 16) {
        EXPECT_GT(loosest, 0.1);
      }
    }
  }
}

TEST(BackendApproximation, BiasesByTheTotals) {
  for (const auto& [heads, in, out] : {std::tuple(1, 16, 8), {3, 40, 8}, {12, 200, 64}, {2, 96, 160}}) {
    constexpr int kPositions = 37;
    const auto load = [&, heads = heads, in = in, out = out](Session& session) -> Runner {
      session.AllocatePlainMemory(kPositions);
      const std::vector<float> values =
          session.Random(7, int64_t{heads} * in * out, 1 / std::sqrt(static_cast<float>(in)));
      const std::vector<float> bias = RandomValues(8, int64_t{heads} * out, 1.0f);
      const HostTensor bias_view = View(bias, {int64_t{heads} * out});
      const std::shared_ptr<PackedWeight> weight =
          session.backend().PackPerHead(View(values, {heads, in, out}), &bias_view);
      const Tensor input = session.Allocate(kPositions, int64_t{heads} * in, Storage::kState);
      const Tensor output = session.Allocate(kPositions, int64_t{heads} * out, Storage::kState);
      const Tensor totals = session.Allocate(kPositions, heads, Storage::kResidual);
      const std::vector<float> inputs = session.Random(9, kPositions * input.cols, 1.0f);
      const std::vector<float> sums = RandomValues(10, kPositions * heads, 1.0f);
      return [=, &session](std::span<const int> units) {
        OwnedStep step = PlainStep(Phase::kDecode, static_cast<int>(units.size()));
        session.backend().BeginStep(step.Layout());
        session.backend().Write(input, Rows(inputs, input.cols, units));
        session.backend().Write(totals, Rows(sums, heads, units));
        session.backend().PerHeadLinear(
            {.phase = Phase::kDecode, .input = input, .weight = weight.get(), .output = output, .totals = &totals});
        return OneRowEach(session.backend().Read(output, static_cast<int64_t>(units.size())), output.cols);
      };
    };
    CheckOperation({.name = "per-head linear with biases, heads " + std::to_string(heads),
                    .units = kPositions,
                    .cols = int64_t{heads} * out,
                    .load = load,
                    .batches = RandomBatches(11, kPositions)});
  }
}

// Of random numbers, of many that are equal, and of activations that are mostly 0.
TEST(BackendApproximation, KeepLargest) {
  constexpr int kPositions = 40;
  for (const int cols : {1, 7, 64, 100, 768}) {
    for (const int count : {1, 2, 5, 63, 99, 700, 1000}) {
      const auto load = [&](Session& session) -> Runner {
        session.AllocatePlainMemory(kPositions);
        const Tensor values = session.Allocate(kPositions, cols, Storage::kState);
        std::vector<float> all = session.Random(12, int64_t{kPositions} * cols, 1.0f);
        const std::vector<float> grid = RandomStates(session, Values::kGrid, 13, int64_t{kPositions} * cols, 1.0f);
        for (int64_t i = 0; i < kPositions * cols; ++i) {
          const int64_t row = i / cols;
          if (row % 4 == 1) all[i] = grid[i];
          if (row % 4 == 2) all[i] = std::max(all[i], 0.0f);
          if (row % 4 == 3) all[i] = std::max(grid[i] - 1, 0.0f);
        }
        return [=, &session](std::span<const int> units) {
          OwnedStep step = PlainStep(Phase::kDecode, static_cast<int>(units.size()));
          session.backend().BeginStep(step.Layout());
          session.backend().Write(values, Rows(all, cols, units));
          session.backend().KeepLargest({.phase = Phase::kDecode, .values = values, .count = count});
          return OneRowEach(session.backend().Read(values, static_cast<int64_t>(units.size())), cols);
        };
      };
      CheckOperation({.name = "the largest " + std::to_string(count) + " of " + std::to_string(cols),
                      .units = kPositions,
                      .cols = cols,
                      .tolerance = {.float32 = 0, .bfloat16 = 0},
                      .load = load,
                      .batches = RandomBatches(14, kPositions)});
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace elserve
