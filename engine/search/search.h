// The search of one sequence after another: it keeps a state of each kind, so that their memory is used again.
#ifndef ELSERVE_ENGINE_SEARCH_SEARCH_H_
#define ELSERVE_ENGINE_SEARCH_SEARCH_H_

#include <utility>

#include "engine/search/beam.h"
#include "engine/search/given_tokens.h"
#include "engine/search/greedy.h"
#include "engine/search/search_state.h"

namespace elserve {

class Search {
 public:
  // Begins the kind of search that the spec asks for. `source`: as RulesFor's; copied where a rule needs it.
  void Start(const DecodingSpec& spec, std::span<const int32_t> source = {}) {
    kind_ = spec.score_from > 0 ? Kind::kGiven : spec.num_beams > 1 ? Kind::kBeam : Kind::kGreedy;
    state().Start(spec, source);
  }
  // The search that Start began.
  SearchState& state() { return const_cast<SearchState&>(std::as_const(*this).state()); }
  const SearchState& state() const {
    if (kind_ == Kind::kGiven) return given_;
    return kind_ == Kind::kBeam ? static_cast<const SearchState&>(beam_) : greedy_;
  }

 private:
  enum class Kind { kGreedy, kBeam, kGiven };
  Kind kind_ = Kind::kGreedy;
  GreedySearch greedy_;
  BeamSearch beam_;
  GivenTokens given_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_SEARCH_H_
