// Sequences keep their memory from one use to the next: a warm step takes none.
#ifndef ELSERVE_ENGINE_SEQUENCE_POOL_H_
#define ELSERVE_ENGINE_SEQUENCE_POOL_H_

#include <cstdint>
#include <vector>

#include "engine/engine.h"
#include "engine/sequence.h"

namespace elserve {

// Sequences that are used one after the other. The lengths and rows of `info` are the most that any of them needs, but
// for the search's memory, which grows with the widest search that a sequence has had.
class SequencePool {
 public:
  explicit SequencePool(const ModelInfo& info);

  // One that is not in flight, for such a search. There is one: a sequence in flight has at least one of the rows.
  Sequence* Take(const DecodingSpec& spec);
  void Return(Sequence* sequence) {
    sequence->search().FreeAlternatives();
    spare_.push_back(sequence);
  }

 private:
  std::vector<Sequence> all_;
  std::vector<Sequence*> spare_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEQUENCE_POOL_H_
