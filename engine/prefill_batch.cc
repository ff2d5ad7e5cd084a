#include "engine/prefill_batch.h"

#include <algorithm>

namespace elserve {

PrefillBatch::PrefillBatch(const StepLimits& limits)
    : positions_(limits.prefill_positions), history_(limits.prefill_history) {
  tokens_.reserve(positions_);
  position_ids_.reserve(positions_);
  rows_.reserve(positions_);
  documents_.reserve(positions_);
}

DecodeLayout PrefillBatch::Build(std::span<Sequence* const> sequences) {
  tokens_.clear();
  position_ids_.clear();
  rows_.clear();
  documents_.clear();
  int history = history_;  // that there is still room for
  for (Sequence* sequence : sequences) {
    if (sequence->stage != Sequence::Stage::kPrefill) continue;
    const int before = sequence->prefilled, wanted = sequence->search().prefix_length() - 1 - before;
    const int count = std::min({wanted, positions_ - static_cast<int>(tokens_.size()), history - before});
    if (count <= 0) break;
    AddSlice(*sequence, count);
    history -= before + count;
    if (count == wanted) sequence->stage = Sequence::Stage::kDecoding;
  }
  return {tokens_, position_ids_, rows_, documents_, {}};
}

void PrefillBatch::AddSlice(Sequence& sequence, int count) {
  const auto begin = static_cast<int32_t>(tokens_.size());
  const int before = sequence.prefilled, after = before + count;
  const std::span<const int32_t> prefix = sequence.search().tokens(0);
  for (int position = before; position < after; ++position) {
    sequence.ancestry.Append(0, position, sequence.TakeCell());
    tokens_.push_back(prefix[position]);
    position_ids_.push_back(position);
  }
  rows_.push_back({.begin = begin, .positions = count, .first = before, .ancestry = sequence.ancestry.cells(0, after)});
  documents_.push_back({begin, count, static_cast<int32_t>(sequence.source.size()), sequence.pages});
  sequence.prefilled = after;
}

}  // namespace elserve
