#include "engine/search/hypotheses.h"

#include <algorithm>

namespace elserve {

void HypothesisSlots::Reserve(int slots, int max_length, int prefix) {
  max_length_ = static_cast<size_t>(max_length);
  prefix_ = static_cast<size_t>(prefix);
  tokens_.resize(static_cast<size_t>(slots) * max_length_);
  logprobs_.resize(static_cast<size_t>(slots) * max_length_);
}

void HypothesisSlots::Extend(int slot, const HypothesisSlots& parents, int parent_slot, int length, int32_t token,
                             float logprob) {
  std::span<const int32_t> old_tokens = parents.tokens(parent_slot, length);
  std::span<const float> old_logprobs = parents.logprobs(parent_slot, length);
  std::span<int32_t> new_tokens = tokens(slot, length + 1);
  std::span<float> new_logprobs = logprobs(slot, length + 1);
  std::copy(old_tokens.begin(), old_tokens.end(), new_tokens.begin());
  std::copy(old_logprobs.begin(), old_logprobs.end(), new_logprobs.begin());
  new_tokens.back() = token;
  new_logprobs.back() = logprob;
}

void HypothesisSlots::Append(int slot, int length, int32_t token, float logprob) {
  tokens(slot, length + 1).back() = token;
  logprobs(slot, length + 1).back() = logprob;
}

void FinishedPool::Reserve(int capacity, int max_length, int prefix) {
  capacity_ = capacity;
  entries_.clear();
  entries_.reserve(kMaxBeams);
  slots_.Reserve(capacity, max_length, prefix);
}

void FinishedPool::Add(const HypothesisSlots& parents, const Ending& ending) {
  size_t rank = 0;
  while (rank < entries_.size() && entries_[rank].score >= ending.score) ++rank;
  int slot = size();
  if (full()) {
    if (rank == entries_.size()) return;
    slot = entries_.back().slot;
    entries_.pop_back();
  }
  entries_.insert(entries_.begin() + static_cast<std::ptrdiff_t>(rank),
                  {slot, ending.length + 1, ending.parent_slot, ending.score, ending.reason});
  slots_.Extend(slot, parents, ending.parent_slot, ending.length, ending.token, ending.logprob);
}

}  // namespace elserve
