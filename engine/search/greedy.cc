#include "engine/search/greedy.h"

#include <algorithm>

namespace elserve {

void GreedySearch::Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) {
  const auto candidates_per_row = CandidatesOf(rows, workspace);
  if (candidates_per_row.empty() || candidates_per_row[0].empty()) {
    done_ = true;
    return;
  }
  const Candidate& best = candidates_per_row[0].front();
  live_.Append(0, length_, best.token, best.logprob);
  sum_ += best.logprob;
  ++length_;
  reason_ = ReasonAt(tokens(0));
  done_ = reason_ != FinishReason::kLength || length_ >= spec_.max_length;
}

std::span<const int32_t> GreedySearch::StablePrefix(int known) const {
  return tokens(0).subspan(static_cast<size_t>(std::min(prefix_length() + known, length_)));
}

void GreedySearch::Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare) const {
  const Answer answer{tokens(0), live_.logprobs(0, length_), sum_, reason_};
  const size_t answers = length_ == prefix_length() ? 0 : 1;
  Write({&answer, answers}, hypotheses, spare);
}

}  // namespace elserve
