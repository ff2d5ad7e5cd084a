#include "engine/search/given_tokens.h"

namespace elserve {

void GivenTokens::Advance(std::span<const DecodedRow> rows, RowWorkspace&) {
  const std::span<float> logprobs = live_.logprobs(0, length_);
  for (const DecodedRow& row : rows) {
    const float logprob = row.candidates.front().logprob;
    logprobs[scored_++] = logprob;
    sum_ += logprob;
  }
  done_ = scored_ == logprobs.size();
}

void GivenTokens::Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare) const {
  const Answer answer{tokens(0), live_.logprobs(0, length_), sum_,
                      IsEos(last_token(0)) ? FinishReason::kEos : FinishReason::kLength};
  Write({&answer, done_ ? size_t{1} : size_t{0}}, hypotheses, spare);
}

}  // namespace elserve
