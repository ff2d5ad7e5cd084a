#include "server/scheduling/answer_cache.h"

#include <utility>

namespace elserve {
namespace {

// Of an entry beside what it holds: its links, its place in the table at half load, what the allocator adds.
constexpr size_t kBookkeepingBytes = 160;

}  // namespace

const std::vector<Hypothesis>* AnswerCache::Find(const Computation& computation) {
  const auto place = places_.find(&computation);
  if (place == places_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, place->second);
  return &place->second->answer;
}

void AnswerCache::Put(std::shared_ptr<const Computation> computation, const std::vector<Hypothesis>& answer) {
  const int64_t bytes = Bytes(*computation, answer);
  // Equal computations that ran side by side have the same answer.
  if (bytes > capacity_ || Find(*computation) != nullptr) return;
  while (counts_.bytes + bytes > capacity_) {
    places_.erase(entries_.back().computation.get());
    counts_.bytes -= entries_.back().bytes;
    entries_.pop_back();
    ++counts_.evictions;
  }
  const Computation* const key = computation.get();
  entries_.push_front({.computation = std::move(computation), .answer = answer, .bytes = bytes});
  places_.emplace(key, entries_.begin());
  counts_.bytes += bytes;
  counts_.entries = static_cast<int64_t>(entries_.size());
}

// Copied lists take what they hold and no more.
int64_t AnswerCache::Bytes(const Computation& computation, const std::vector<Hypothesis>& answer) {
  size_t bytes = kBookkeepingBytes + sizeof(Entry) + computation.bytes();
  for (const Hypothesis& hypothesis : answer) {
    bytes += sizeof(Hypothesis) + hypothesis.tokens.size() * sizeof(int32_t) +
             hypothesis.logprobs.size() * sizeof(float) + hypothesis.alternatives.size() * sizeof(TokenLogprob);
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace elserve
