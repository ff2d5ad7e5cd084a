// Where the hypotheses of one sequence live: tokens and their log-probabilities, contiguous, in memory taken once.
#ifndef ELSERVE_ENGINE_SEARCH_HYPOTHESES_H_
#define ELSERVE_ENGINE_SEARCH_HYPOTHESES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/decoding.h"

namespace elserve {

// Room for `slots` hypotheses of max_length tokens each, of which the first `prefix` were not generated and have no
// log-probability.
class HypothesisSlots {
 public:
  // Takes the memory; a second call uses it again where it is large enough.
  void Reserve(int slots, int max_length, int prefix);

  std::span<int32_t> tokens(int slot, int length) { return {&tokens_[Offset(slot)], static_cast<size_t>(length)}; }
  std::span<const int32_t> tokens(int slot, int length) const {
    return {&tokens_[Offset(slot)], static_cast<size_t>(length)};
  }
  // The log-probability of each generated token of a hypothesis of `length` tokens: length - prefix of them.
  std::span<float> logprobs(int slot, int length) {
    return {&logprobs_[Offset(slot)], static_cast<size_t>(length) - prefix_};
  }
  std::span<const float> logprobs(int slot, int length) const {
    return {&logprobs_[Offset(slot)], static_cast<size_t>(length) - prefix_};
  }

  // `slot` becomes the hypothesis in `parent_slot` of `parents` (of `length` tokens) followed by one more token.
  void Extend(int slot, const HypothesisSlots& parents, int parent_slot, int length, int32_t token, float logprob);

  // The hypothesis of `length` tokens in `slot` grows by one.
  void Append(int slot, int length, int32_t token, float logprob);

 private:
  size_t Offset(int slot) const { return static_cast<size_t>(slot) * max_length_; }

  size_t max_length_ = 0, prefix_ = 0;
  std::vector<int32_t> tokens_;  // [slots, max_length]
  std::vector<float> logprobs_;  // [slots, max_length]; the last `prefix` of each row are never used
};

// The finished hypotheses of one sequence: the best `capacity` (num_beams), best first.
class FinishedPool {
 public:
  // Takes the memory as HypothesisSlots does, and empties the pool.
  void Reserve(int capacity, int max_length, int prefix);

  int size() const { return static_cast<int>(entries_.size()); }
  bool full() const { return size() == capacity_; }
  float score(int rank) const { return entries_[rank].score; }
  FinishReason reason(int rank) const { return entries_[rank].reason; }
  int parent_slot(int rank) const { return entries_[rank].parent_slot; }
  std::span<const int32_t> tokens(int rank) const { return slots_.tokens(entries_[rank].slot, entries_[rank].length); }
  std::span<const float> logprobs(int rank) const {
    return slots_.logprobs(entries_[rank].slot, entries_[rank].length);
  }

  // One more: the hypothesis in `parent_slot` of `parents` (of `length` tokens) followed by a last token. It is left
  // out if `capacity` others are at least as good; among equal scores the one that came first stands first.
  struct Ending {
    int parent_slot;
    int length;
    int32_t token;
    float logprob;
    float score;
    FinishReason reason;
  };
  void Add(const HypothesisSlots& parents, const Ending& ending);

 private:
  struct Entry {
    int slot;
    int length;  // tokens, the prefix included
    int parent_slot;
    float score;
    FinishReason reason;
  };
  int capacity_ = 0;
  std::vector<Entry> entries_;  // best first; at most capacity_
  HypothesisSlots slots_;       // capacity_ of them
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_HYPOTHESES_H_
