// The search of one sequence after another: it keeps a state of each kind, so that their memory is used again.
#ifndef ELSERVE_ENGINE_SEARCH_SEARCH_H_
#define ELSERVE_ENGINE_SEARCH_SEARCH_H_

#include <cstddef>
#include <span>
#include <utility>

#include "engine/search/beam.h"
#include "engine/search/diverse.h"
#include "engine/search/given_tokens.h"
#include "engine/search/greedy.h"
#include "engine/search/sample.h"
#include "engine/search/search_state.h"

namespace elserve {

class Search {
 public:
  enum class Kind { kGreedy, kBeam, kDiverse, kSample, kGiven };
  static constexpr size_t kKinds = 5;

  static Kind KindOf(const DecodingSpec& spec) {
    if (spec.score_from > 0) return Kind::kGiven;
    if (spec.do_sample) return Kind::kSample;
    if (spec.num_beam_groups > 1) return Kind::kDiverse;
    return spec.num_beams > 1 ? Kind::kBeam : Kind::kGreedy;
  }

  // Begins the kind of search that the spec asks for. `source`: as RulesFor's; copied where a rule needs it.
  void Start(const DecodingSpec& spec, std::span<const int32_t> source = {}) {
    kind_ = KindOf(spec);
    state().Start(spec, source);
  }
  // The search that Start began.
  SearchState& state() { return const_cast<SearchState&>(std::as_const(*this).state()); }
  const SearchState& state() const {
    switch (kind_) {
      case Kind::kBeam:
        return beam_;
      case Kind::kDiverse:
        return diverse_;
      case Kind::kSample:
        return sample_;
      case Kind::kGiven:
        return given_;
      case Kind::kGreedy:
        break;
    }
    return greedy_;
  }

 private:
  Kind kind_ = Kind::kGreedy;
  GreedySearch greedy_;
  BeamSearch beam_;
  DiverseBeamSearch diverse_;
  SampleSearch sample_;
  GivenTokens given_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_SEARCH_H_
