#include "engine/sequence_pool.h"

#include <algorithm>

namespace elserve {

SequencePool::SequencePool(const ModelInfo& info) : all_(info.capacity.rows) {
  spare_.reserve(all_.size());
  DecodingSpec greedy;
  greedy.prefix = {0};
  greedy.max_length = info.max_decoder_tokens;
  for (Sequence& sequence : all_) {
    sequence.searches.Start(greedy);  // takes the memory that any greedy search needs
    sequence.ancestry.Reserve(1, info.max_decoder_tokens);
    spare_.push_back(&sequence);
  }
}

// The one with the least memory for its search that is enough, or else the one with the most: wide searches find the
// memory of wide ones again, and narrow ones leave it to them.
Sequence* SequencePool::Take(int64_t search_room) {
  const auto better = [search_room](const Sequence* a, const Sequence* b) {
    const bool a_fits = a->search_room >= search_room, b_fits = b->search_room >= search_room;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a->search_room < b->search_room : a->search_room > b->search_room;
  };
  const auto best = std::min_element(spare_.begin(), spare_.end(), better);
  Sequence* sequence = *best;
  *best = spare_.back();
  spare_.pop_back();
  sequence->search_room = std::max(sequence->search_room, search_room);
  return sequence;
}

}  // namespace elserve
