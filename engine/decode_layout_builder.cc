#include "engine/decode_layout_builder.h"

namespace elserve {

// Rules that go by long sources may make a row's buffer grow, once.
DecodeLayoutBuilder::DecodeLayoutBuilder(const Resources& capacity, int max_length, const DocumentStore& store)
    : edits_(capacity.edits,
             int64_t{2} * max_length + 2 * kMaxEosIds + kMaxSequenceBiases + kMaxBadWords + 2 * kMaxSuppressTokens),
      documents_(capacity.rows, capacity.encoder_pages, store) {
  tokens_.reserve(capacity.rows);
  position_ids_.reserve(capacity.rows);
  rows_.reserve(capacity.rows);
  select_.reserve(capacity.rows);
  rules_.reserve(capacity.rows);
}

DecodeLayout DecodeLayoutBuilder::Build(std::span<Sequence* const> sequences) {
  edits_.Clear();
  tokens_.clear();
  position_ids_.clear();
  rows_.clear();
  select_.clear();
  rules_.clear();
  documents_.Clear();
  for (Sequence* sequence : sequences) AddSequence(*sequence);
  return {tokens_, position_ids_, rows_, documents_.documents(), select_};
}

void DecodeLayoutBuilder::AddSequence(Sequence& sequence) {
  const SearchState& search = sequence.search();
  const int before = search.length() - 1;  // positions that have their cells
  documents_.Add(sequence, search.rows());
  sequence.ancestry.Reorder(search.parents(), before);
  for (int row = 0; row < search.rows(); ++row) {
    const auto position = static_cast<int32_t>(tokens_.size());
    sequence.ancestry.Append(row, before, sequence.TakeCell());
    tokens_.push_back(search.last_token(row));
    position_ids_.push_back(before);
    rows_.push_back({.begin = position, .first = before, .ancestry = sequence.ancestry.cells(row, before + 1)});
    const RowRules rules = RulesFor(search.spec(), search.source(), search.tokens(row), edits_);
    select_.push_back({.position = position,
                       .space = rules.log_probs ? SelectSpace::kLogProbs : SelectSpace::kLogits,
                       .count = rules.count,
                       .force = rules.force,
                       .edits = rules.edits,
                       .renormalize = rules.renormalize,
                       .whole = rules.whole});
    rules_.push_back(rules);
  }
  // The rows again, for their most likely tokens as no rule changed them.
  for (int row = search.rows(); row < search.select_rows(); ++row) {
    select_.push_back({.position = static_cast<int32_t>(tokens_.size()) - search.select_rows() + row,
                       .space = SelectSpace::kLogProbs,
                       .count = search.spec().top_logprobs,
                       .force = {},
                       .edits = {}});
    rules_.push_back({});
  }
}

}  // namespace elserve
