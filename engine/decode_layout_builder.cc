#include "engine/decode_layout_builder.h"

namespace elserve {

DecodeLayoutBuilder::DecodeLayoutBuilder(int rows, int64_t edits, int max_length)
    : edits_(edits, int64_t{max_length} + kMaxEosIds + kMaxBadWords) {
  tokens_.reserve(rows);
  position_ids_.reserve(rows);
  rows_.reserve(rows);
  select_.reserve(rows);
  documents_.reserve(rows);
}

DecodeLayout DecodeLayoutBuilder::Build(std::span<Sequence* const> sequences) {
  edits_.Clear();
  tokens_.clear();
  position_ids_.clear();
  rows_.clear();
  select_.clear();
  documents_.clear();
  for (Sequence* sequence : sequences) AddSequence(*sequence);
  return {tokens_, position_ids_, rows_, documents_, select_};
}

void DecodeLayoutBuilder::AddSequence(Sequence& sequence) {
  const SearchState& search = sequence.search();
  const int before = search.length() - 1;  // positions that have their cells
  documents_.push_back({static_cast<int32_t>(tokens_.size()), search.rows(),
                        static_cast<int32_t>(sequence.source.size()), sequence.pages});
  sequence.ancestry.Reorder(search.parents(), before);
  for (int row = 0; row < search.rows(); ++row) {
    const auto position = static_cast<int32_t>(tokens_.size());
    sequence.ancestry.Append(row, before, sequence.TakeCell());
    tokens_.push_back(search.last_token(row));
    position_ids_.push_back(before);
    rows_.push_back({.begin = position, .first = before, .ancestry = sequence.ancestry.cells(row, before + 1)});
    const RowRules rules = RulesFor(search.spec(), search.tokens(row), edits_);
    select_.push_back({position, rules.log_probs ? SelectSpace::kLogProbs : SelectSpace::kLogits, rules.count,
                       rules.force, rules.edits, rules.renormalize});
  }
}

}  // namespace elserve
