#include "engine/prefill_batch.h"

#include <algorithm>

namespace elserve {

PrefillBatch::PrefillBatch(const StepLimits& limits, int64_t pages, int64_t sequences, const DocumentStore& store)
    : positions_(limits.prefill_positions),
      history_(limits.prefill_history),
      select_rows_(limits.select_rows),
      documents_(positions_, pages, store) {
  tokens_.reserve(positions_);
  position_ids_.reserve(positions_);
  rows_.reserve(positions_);
  select_.reserve(select_rows_);
  scored_.reserve(select_rows_);
  waiting_.reserve(sequences);
}

DecodeLayout PrefillBatch::Build(std::span<Sequence* const> sequences) {
  tokens_.clear();
  position_ids_.clear();
  rows_.clear();
  documents_.Clear();
  select_.clear();
  scored_.clear();
  Share(sequences);
  for (Sequence* sequence : sequences) {
    if (sequence->stage != Sequence::Stage::kPrefill || sequence->slice == 0) continue;
    AddSlice(*sequence);
    const SearchState& search = sequence->search();
    const bool complete = sequence->prefilled == search.prefix_length() - 1;
    if (complete && search.spec().score_from == 0) sequence->stage = Sequence::Stage::kDecoding;
  }
  return {tokens_, position_ids_, rows_, documents_.documents(), select_};
}

void PrefillBatch::Share(std::span<Sequence* const> sequences) {
  waiting_.clear();
  for (Sequence* sequence : sequences) {
    if (sequence->stage == Sequence::Stage::kPrefill) waiting_.push_back(sequence);
  }
  std::sort(waiting_.begin(), waiting_.end(),
            [](const Sequence* a, const Sequence* b) { return a->admitted < b->admitted; });
  int positions = positions_, history = history_, select_rows = select_rows_;  // that there is still room for
  for (Sequence* sequence : waiting_) {
    const SearchState& search = sequence->search();
    const int before = sequence->prefilled, from = search.spec().score_from;
    int count = std::min({search.prefix_length() - 1 - before, positions, history - before});
    // Positions before the first one that selects.
    const int unscored = from > 0 ? std::max(0, from - 1 - before) : count;
    count = std::max(0, std::min(count, unscored + select_rows));
    sequence->slice = count;
    if (count == 0) continue;
    positions -= count;
    history -= before + count;
    select_rows -= std::max(0, count - unscored);
  }
}

void PrefillBatch::AddSlice(Sequence& sequence) {
  const auto begin = static_cast<int32_t>(tokens_.size());
  const int count = sequence.slice, before = sequence.prefilled, after = before + count;
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
  documents_.Add(sequence, count);
  if (select_.size() > selected) scored_.push_back({&sequence, static_cast<int>(select_.size() - selected)});
  sequence.prefilled = after;
}

}  // namespace elserve
