// The search of one sequence after another: it keeps a state of each kind, so that their memory is used again.
#ifndef ELSERVE_ENGINE_SEARCH_SEARCH_H_
#define ELSERVE_ENGINE_SEARCH_SEARCH_H_

#include "engine/search/beam.h"
#include "engine/search/greedy.h"
#include "engine/search/search_state.h"

namespace elserve {

class Search {
 public:
  // Begins the kind of search that the spec asks for.
  void Start(const DecodingSpec& spec) {
    greedily_ = spec.num_beams == 1;
    state().Start(spec);
  }
  // The search that Start began.
  SearchState& state() { return greedily_ ? static_cast<SearchState&>(greedy_) : beam_; }
  const SearchState& state() const { return greedily_ ? static_cast<const SearchState&>(greedy_) : beam_; }

 private:
  bool greedily_ = true;
  GreedySearch greedy_;
  BeamSearch beam_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_SEARCH_H_
