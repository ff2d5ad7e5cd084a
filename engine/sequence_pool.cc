#include "engine/sequence_pool.h"

#include <algorithm>
#include <numeric>

namespace elserve {

SequencePool::SequencePool(const ModelInfo& info) : all_(info.capacity.rows) {
  spare_.reserve(all_.size());
  DecodingSpec greedy;
  greedy.prefix = {0};
  greedy.max_length = info.max_decoder_tokens;
  for (Sequence& sequence : all_) {
    sequence.searches.Start(greedy);  // takes the memory that any greedy search needs
    sequence.search_rooms[static_cast<size_t>(Search::Kind::kGreedy)] = info.max_decoder_tokens;
    sequence.ancestry.Reserve(1, info.max_decoder_tokens);
    spare_.push_back(&sequence);
  }
}

// The one with the least memory for its kind of search that is enough, or else the one with the most: wide searches
// find the memory of wide ones again, and narrow ones leave it to them. Of equals the one with the least memory for
// others.
Sequence* SequencePool::Take(const DecodingSpec& spec) {
  const auto kind = static_cast<size_t>(Search::KindOf(spec));
  const int64_t room = int64_t{spec.most_rows()} * spec.max_length;
  const auto others = [](const Sequence* s) {
    return std::accumulate(s->search_rooms.begin(), s->search_rooms.end(), int64_t{0});
  };
  const auto better = [&](const Sequence* a, const Sequence* b) {
    const int64_t a_room = a->search_rooms[kind], b_room = b->search_rooms[kind];
    if ((a_room >= room) != (b_room >= room)) return a_room >= room;
    if (a_room != b_room) return a_room >= room ? a_room < b_room : a_room > b_room;
    return others(a) < others(b);
  };
  const auto best = std::min_element(spare_.begin(), spare_.end(), better);
  Sequence* sequence = *best;
  *best = spare_.back();
  spare_.pop_back();
  sequence->search_rooms[kind] = std::max(sequence->search_rooms[kind], room);
  return sequence;
}

}  // namespace elserve
