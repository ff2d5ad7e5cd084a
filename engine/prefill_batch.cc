#include "engine/prefill_batch.h"

#include <algorithm>

namespace elserve {

PrefillBatch::PrefillBatch(const StepLimits& limits, int64_t pages, const DocumentStore& store)
    : positions_(limits.prefill_positions),
      history_(limits.prefill_history),
      select_rows_(limits.select_rows),
      documents_(positions_, pages, store) {
  tokens_.reserve(positions_);
  position_ids_.reserve(positions_);
  rows_.reserve(positions_);
  select_.reserve(select_rows_);
  scored_.reserve(select_rows_);
}

DecodeLayout PrefillBatch::Build(std::span<Sequence* const> sequences) {
  tokens_.clear();
  position_ids_.clear();
  rows_.clear();
  documents_.Clear();
  select_.clear();
  scored_.clear();
  int history = history_;  // that there is still room for
  for (Sequence* sequence : sequences) {
    if (sequence->stage != Sequence::Stage::kPrefill) continue;
    const SearchState& search = sequence->search();
    const int before = sequence->prefilled, wanted = search.prefix_length() - 1 - before;
    const bool scores = search.spec().score_from > 0;
    int count = std::min({wanted, positions_ - static_cast<int>(tokens_.size()), history - before});
    if (scores) {
      const int unscored = std::max(0, search.spec().score_from - 1 - before);  // positions before the first select row
      count = std::min(count, unscored + select_rows_ - static_cast<int>(select_.size()));
    }
    if (count <= 0) break;
    AddSlice(*sequence, count);
    history -= before + count;
    if (count == wanted && !scores) sequence->stage = Sequence::Stage::kDecoding;
  }
  return {tokens_, position_ids_, rows_, documents_.documents(), select_};
}

void PrefillBatch::AddSlice(Sequence& sequence, int count) {
  const auto begin = static_cast<int32_t>(tokens_.size());
  const int before = sequence.prefilled, after = before + count;
  const SearchState& search = sequence.search();
  const std::span<const int32_t> prefix = search.tokens(0);
  const size_t selected = select_.size();
  for (int position = before; position < after; ++position) {
    const int next = position + 1;
    if (const int from = search.spec().score_from; from > 0 && next >= from) {
      select_.push_back(
          {.position = begin + position - before, .count = 1, .force = prefix.subspan(next, 1), .edits = {}});
    }
    sequence.ancestry.Append(0, position, sequence.TakeCell());
    tokens_.push_back(prefix[position]);
    position_ids_.push_back(position);
  }
  rows_.push_back({.begin = begin, .positions = count, .first = before, .ancestry = sequence.ancestry.cells(0, after)});
  documents_.Add(sequence.document, count);
  if (select_.size() > selected) scored_.push_back({&sequence, static_cast<int>(select_.size() - selected)});
  sequence.prefilled = after;
}

}  // namespace elserve
