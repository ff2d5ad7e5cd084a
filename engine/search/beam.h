// Beam search over the candidates that the device found, exactly as transformers 5.23 (generation/utils.py,
// _beam_search).
#ifndef ELSERVE_ENGINE_SEARCH_BEAM_H_
#define ELSERVE_ENGINE_SEARCH_BEAM_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search/running_beam.h"
#include "engine/search/search_state.h"

namespace elserve {

// A beam is one of transformers' num_beams running hypotheses with its sum. At the start all beams (sums 0, -1e9, ...)
// share one row, and they go on sharing it while their tokens are the same (a forced first token): there are at most
// num_beams rows, and often fewer.
//
// Finalize of a search that is not done: finished hypotheses and live rows scored at their length, the best of them.
class BeamSearch final : public SearchState {
 public:
  void Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) override;
  // What all live rows and the best finished hypothesis share.
  std::span<const int32_t> StablePrefix(int known) const override;
  void Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare = nullptr) const override;

 private:
  // A continuation of a beam.
  struct Continuation {
    float sum;      // with its token
    float running;  // what ranks it among the next beams: the sum, 1e9 less if it hits
    int beam;
    int rank;   // among the candidates of the beam's row
    bool hits;  // the token is an EOS, or the length is max_length after it
  };

  void Begin() override;
  void CollectContinuations(std::span<const std::span<const Candidate>> candidates_per_row);
  void AddFinished(std::span<const std::span<const Candidate>> candidates_per_row);
  void NextBeams(std::span<const std::span<const Candidate>> candidates_per_row);
  bool CanImprove() const;
  float LengthDivisor(int new_tokens) const;
  // Adds what live rows can still fill in to the first `count` answers; the number of all.
  size_t AddLive(std::span<Answer> answers, size_t count) const;

  std::vector<RunningBeam> beams_;  // num_beams of them, best sum first
  FinishedPool finished_;
  // A step's scratch.
  std::vector<RunningBeam> next_beams_;
  HypothesisSlots next_;
  std::vector<Continuation> continuations_;  // of all beams, best sum first
  std::vector<int> order_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_BEAM_H_
