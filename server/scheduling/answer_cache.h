// Answers that are kept for requests that come again.
#ifndef ELSERVE_SERVER_SCHEDULING_ANSWER_CACHE_H_
#define ELSERVE_SERVER_SCHEDULING_ANSWER_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/decoding.h"
#include "server/scheduling/computation.h"

namespace elserve {

// Since the beginning, but for the first two. Who was answered by it is counted with the jobs.
struct AnswerCacheCounts {
  int64_t bytes = 0;
  int64_t entries = 0;
  int64_t evictions = 0;  // answers that were given up for others
};

// Whole answers by what was asked, compared value for value. An answer depends on that alone, so a kept one is as good
// as a computed one. Bounded by bytes, questions and tables included; who was not asked for the longest time goes
// first.
class AnswerCache {
 public:
  // 0: keeps nothing.
  explicit AnswerCache(int64_t capacity_bytes) : capacity_(capacity_bytes) {}

  // The answer, and notes that it was asked for. Null: there is none. Valid until the next Put.
  const std::vector<Hypothesis>* Find(const Computation& computation);
  // Keeps a copy, unless it is larger than the whole cache.
  void Put(std::shared_ptr<const Computation> computation, const std::vector<Hypothesis>& answer);

  const AnswerCacheCounts& counts() const { return counts_; }

 private:
  struct Entry {
    std::shared_ptr<const Computation> computation;
    std::vector<Hypothesis> answer;
    int64_t bytes = 0;
  };
  using Entries = std::list<Entry>;

  static int64_t Bytes(const Computation& computation, const std::vector<Hypothesis>& answer);

  const int64_t capacity_;
  Entries entries_;  // last asked for first
  absl::flat_hash_map<const Computation*, Entries::iterator, ComputationHash, EqualComputations> places_;
  AnswerCacheCounts counts_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_ANSWER_CACHE_H_
