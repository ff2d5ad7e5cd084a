// PrefillAttention on every backend under test: rows of many positions, in slices, in every form of memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "tests/engine/backend/attention_world.h"
#include "tests/engine/backend/backends_under_test.h"
#include "tests/engine/backend/operation_check.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

// Every length around the edges of cells, pages, strips and of the tasks that queries are cut into. Fewer for an
// emulated device, which is slow.
std::vector<int> Lengths() {
  if (kEmulatedDevice) return {1, 5, 70, 17};
  return {1, 2, 16, 63, 64, 65, 130, 210};
}

std::vector<AttentionShape> Shapes() {
  if (kEmulatedDevice) return {{1, 8, 8}, {3, 16, 40}};
  return {{1, 8, 8}, {3, 8, 40}, {2, 160, 96}, {3, 64, 128}};
}

// One row's slices: each of 1 to `most` positions.
std::vector<int> Slices(int length, int most, std::mt19937& engine) {
  std::vector<int> slices;
  while (length > 0) {
    const int count = std::min(length, 1 + static_cast<int>(engine() % most));
    slices.push_back(count);
    length -= count;
  }
  return slices;
}

// Prompts with cells of their own, in random order.
struct Prompts {
  std::vector<int> lengths = Lengths();
  std::vector<std::vector<int32_t>> cells;
  std::vector<int> first;  // where each one's positions stand among those of all
  int positions = 0;

  Prompts() {
    for (const int length : lengths) first.push_back(positions), positions += length;
    std::vector<int32_t> order(blocks() * kBlockCells);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 engine(5);
    std::shuffle(order.begin(), order.end(), engine);
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto begin = order.begin() + first[i];
      cells.emplace_back(begin, begin + lengths[i]);
    }
  }
  int64_t blocks() const { return positions / kBlockCells + 2; }
};

struct PrefillTensors {
  Tensor states, query, output;
};

// A step that feeds `counts[i]` more positions of each unit, of which `done[i]` were fed; units without any are left
// out.
OwnedStep SliceStep(const Prompts& prompts, std::span<const int> units, std::span<const int> done,
                    std::span<const int> counts) {
  OwnedStep step;
  step.phase = Phase::kPrefill;
  static const std::vector<int32_t> page = {0};
  for (size_t i = 0; i < units.size(); ++i) {
    if (counts[i] == 0) continue;
    const auto& cells = prompts.cells[units[i]];
    step.decode_documents.push_back(
        {.begin = static_cast<int32_t>(step.tokens.size()), .positions = counts[i], .length = 1, .pages = page});
    for (int j = 0; j < counts[i]; ++j) {
      step.tokens.push_back(0);
      step.position_ids.push_back(done[i] + j);
    }
    step.rows.push_back({counts[i], {cells.begin(), cells.begin() + done[i] + counts[i]}});
  }
  return step;
}

// Feeds the units in slices of random sizes, which no two runs have alike, and returns what each position got.
class PrefillRun {
 public:
  PrefillRun(Session& session, const Prompts& prompts, const MemoryShape& shape, bool biased)
      : session_(session),
        prompts_(prompts),
        el_(shape.self == AttentionForm::kEl),
        width_(shape.heads * shape.head_dim) {
    const int longest = *std::max_element(prompts.lengths.begin(), prompts.lengths.end());
    session.AllocateMemory(shape, 1, prompts.blocks(),
                           {.prefill_positions = prompts.positions,
                            .prefill_history = prompts.positions,
                            .decode_positions = 1,
                            .select_rows = static_cast<int>(prompts.lengths.size()),
                            .decoder_length = longest,
                            .source_length = kPageTokens});
    state_width_ = el_ ? shape.d : 3 * width_;
    tensors_ = {session.Allocate(prompts.positions, state_width_, Storage::kState),
                session.Allocate(prompts.positions, width_, Storage::kState),
                session.Allocate(prompts.positions, width_, Storage::kState)};
    states_ = session.Random(7, prompts.positions * state_width_, 1.0f);
    queries_ = session.Random(8, prompts.positions * width_, 2.0f / std::sqrt(static_cast<float>(shape.head_dim)));
    if (el_) keys_values_ = session.RandomLinear(9, 2 * width_, shape.d, /*with_bias=*/false);
    if (biased) {
      // Nothing of it is behind a query.
      const std::vector<float> table = RandomValues(10, int64_t{shape.heads} * longest, 2.0f);
      table_ = session.backend().PackPositionBias(View(table, {shape.heads, longest}));
      bias_ = {.table = table_.get(), .zero = longest - 1};
    }
  }

  UnitOutputs operator()(std::span<const int> units) {
    UnitOutputs outputs(units.size());
    std::vector<std::vector<int>> slices;
    const int most = 16 + static_cast<int>(engine_() % 200);
    for (const int unit : units) slices.push_back(Slices(prompts_.lengths[unit], most, engine_));
    std::vector<int> done(units.size(), 0);
    for (size_t step = 0;; ++step) {
      std::vector<int> counts;
      for (const auto& own : slices) counts.push_back(step < own.size() ? own[step] : 0);
      if (std::all_of(counts.begin(), counts.end(), [](int count) { return count == 0; })) return outputs;
      Feed(units, done, counts, &outputs);
      for (size_t i = 0; i < units.size(); ++i) done[i] += counts[i];
    }
  }

 private:
  void Feed(std::span<const int> units, std::span<const int> done, std::span<const int> counts, UnitOutputs* outputs) {
    std::vector<int> rows;  // of the values
    for (size_t i = 0; i < units.size(); ++i) {
      for (int j = 0; j < counts[i]; ++j) rows.push_back(prompts_.first[units[i]] + done[i] + j);
    }
    OwnedStep step = SliceStep(prompts_, units, done, counts);
    session_.backend().BeginStep(step.Layout());
    session_.backend().Write(tensors_.states, Rows(states_, state_width_, rows));
    session_.backend().Write(tensors_.query, Rows(queries_, width_, rows));
    session_.backend().PrefillAttention({.layer = 1,
                                         .states = tensors_.states,
                                         .query = el_ ? tensors_.query : Tensor{},
                                         .keys_values = keys_values_.get(),
                                         .output = tensors_.output,
                                         .bias = bias_});
    const std::vector<float> got = session_.backend().Read(tensors_.output, static_cast<int64_t>(rows.size()));
    auto from = got.begin();
    for (size_t i = 0; i < units.size(); ++i) {
      (*outputs)[i].insert((*outputs)[i].end(), from, from + counts[i] * width_);
      from += counts[i] * width_;
    }
  }

  Session& session_;
  const Prompts& prompts_;
  const bool el_;
  const int64_t width_;
  int64_t state_width_ = 0;
  PrefillTensors tensors_;
  std::vector<float> states_, queries_;
  PackedWeightPtr keys_values_, table_;
  PositionBias bias_;
  std::mt19937 engine_{11};
};

// Each position gets what a pass over its whole row gives it, to the same bits whatever the slices and its company.
TEST(BackendPrefill, AttendsToEachRowsOwnPast) {
  const Prompts prompts;
  const auto units = static_cast<int>(prompts.lengths.size());
  for (const AttentionShape& attention : Shapes()) {
    for (const MemoryShape& shape : MemoriesOf(attention)) {
      for (const bool biased : {false, true}) {
        // What is added does not know the width of heads.
        if (biased && shape.head_dim > 16) continue;
        CheckOperation({.name = NameOf(biased ? "biased prefill" : "prefill", shape),
                        .units = units,
                        .cols = int64_t{shape.heads} * shape.head_dim,
                        // Keys and values that are made of states are rounded, where the reference's are not.
                        .tolerance = {.bfloat16 = 1.0 / (shape.self == AttentionForm::kEl ? 32 : 128)},
                        .int8 = shape.int8,
                        .load = [&](Session& session) -> Runner {
                          const auto run = std::make_shared<PrefillRun>(session, prompts, shape, biased);
                          return [run](std::span<const int> chosen) { return (*run)(chosen); };
                        },
                        .batches = RandomBatches(12, units)});
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace elserve
