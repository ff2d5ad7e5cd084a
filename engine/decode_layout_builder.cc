#include "engine/decode_layout_builder.h"

namespace elserve {

DecodeLayoutBuilder::DecodeLayoutBuilder(int rows, int64_t edits, int max_length)
    : edits_(edits, int64_t{max_length} + kMaxEosIds + kMaxBadWords), ancestry_(rows, max_length) {
  tokens_.reserve(rows);
  position_ids_.reserve(rows);
  cells_.reserve(rows);
  select_.reserve(rows);
  documents_.reserve(rows);
}

DecodeLayout DecodeLayoutBuilder::Build(std::span<Sequence* const> sequences) {
  edits_.Clear();
  ancestry_.BeginStep();
  tokens_.clear();
  position_ids_.clear();
  cells_.clear();
  select_.clear();
  documents_.clear();
  for (Sequence* sequence : sequences) {
    if (sequence->stage == Sequence::Stage::kDecoding) AddSequence(*sequence);
  }
  return {tokens_, position_ids_, cells_, ancestry_.table(), ancestry_.stride(), documents_, select_};
}

void DecodeLayoutBuilder::AddSequence(Sequence& sequence) {
  const BeamState& search = sequence.search;
  const int first = static_cast<int>(tokens_.size());
  documents_.push_back({first, search.rows(), static_cast<int32_t>(sequence.source.size()), sequence.pages});
  for (int row = 0; row < search.rows(); ++row) {
    const int position = first + row;
    const int before = search.length() - 1;  // positions that have their cells
    const int32_t cell = sequence.TakeCell();
    ancestry_.Continue(position, sequence.first_position + search.parents()[row], before, cell);
    tokens_.push_back(search.last_token(row));
    position_ids_.push_back(before);
    cells_.push_back(cell);
    const RowRules rules = RulesFor(search.spec(), search.tokens(row), edits_);
    select_.push_back({position, rules.log_probs ? SelectSpace::kLogProbs : SelectSpace::kLogits, rules.count,
                       rules.force, rules.edits, rules.renormalize});
  }
  sequence.first_position = first;
}

}  // namespace elserve
