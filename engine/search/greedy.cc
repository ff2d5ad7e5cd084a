#include "engine/search/greedy.h"

#include <algorithm>

namespace elserve {

void GreedySearch::Advance(std::span<const std::span<const Candidate>> candidates_per_row) {
  const std::span<const Candidate> candidates = candidates_per_row[0];
  if (candidates.empty()) {
    done_ = true;
    return;
  }
  const Candidate& best = candidates.front();
  live_.Append(0, length_, best.token, best.logprob);
  sum_ += best.logprob;
  ++length_;
  if (IsEos(best.token)) reason_ = FinishReason::kEos;
  done_ = reason_ == FinishReason::kEos || length_ >= spec_.max_length;
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
