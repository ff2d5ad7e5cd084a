#include "engine/search/alternatives_log.h"

#include <algorithm>

namespace elserve {

void AlternativesLog::Reserve(int count, int rows, int steps) {
  count_ = static_cast<size_t>(count);
  rows_ = static_cast<size_t>(rows);
  steps_ = 0;
  parents_.resize(rows_ * static_cast<size_t>(steps));
  tokens_.resize(parents_.size() * count_);
}

void AlternativesLog::Add(std::span<const int32_t> parents, std::span<const DecodedRow> most_likely) {
  // The vocabulary's size, if that is smaller, from the first step on.
  count_ = std::min(count_, most_likely.front().candidates.size());
  std::copy(parents.begin(), parents.end(), parents_.begin() + static_cast<std::ptrdiff_t>(Offset(steps_, 0)));
  auto out = tokens_.begin() + static_cast<std::ptrdiff_t>(Offset(steps_, 0) * count_);
  for (const DecodedRow& row : most_likely) {
    const std::span<const Candidate> first = row.candidates.first(count_);
    out = std::transform(first.begin(), first.end(), out, [](const Candidate& candidate) {
      return TokenLogprob{candidate.token, candidate.logprob};
    });
  }
  ++steps_;
}

void AlternativesLog::Collect(int row, int tokens, std::vector<TokenLogprob>* alternatives) const {
  alternatives->resize(static_cast<size_t>(tokens) * count_);
  for (auto step = static_cast<size_t>(tokens); step-- > 0; row = parents_[Offset(step, row)]) {
    const auto from = tokens_.begin() + static_cast<std::ptrdiff_t>(Offset(step, row) * count_);
    std::copy_n(from, count_, alternatives->begin() + static_cast<std::ptrdiff_t>(step * count_));
  }
}

}  // namespace elserve
