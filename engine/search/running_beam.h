// What searches with beams have in common.
#ifndef ELSERVE_ENGINE_SEARCH_RUNNING_BEAM_H_
#define ELSERVE_ENGINE_SEARCH_RUNNING_BEAM_H_

namespace elserve {

// transformers' sum of a beam that does not exist yet, the score of an empty place in the pool, and what is taken from
// a sum that must not be chosen.
inline constexpr float kDeadSum = -1e9f;
// Sums below it are dead beams': no real sum of log-probabilities comes near.
inline constexpr float kLeastLiveSum = -5e8f;

struct RunningBeam {
  int row;    // beams with the same tokens share one
  float sum;  // float32 as torch adds it; a dead beam's is about kDeadSum
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_RUNNING_BEAM_H_
