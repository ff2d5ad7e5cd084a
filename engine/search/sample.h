// Sampling, as transformers 5.23 (generation/utils.py, _sample with do_sample).
#ifndef ELSERVE_ENGINE_SEARCH_SAMPLE_H_
#define ELSERVE_ENGINE_SEARCH_SAMPLE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search/search_state.h"

namespace elserve {

// num_return_sequences hypotheses, each drawn on its own. They share one row until their first token; then each has a
// row, until it ends. Token n of hypothesis h goes by a random number of its own (random.h), so that neither what else
// is decoded nor which of its own have ended changes it.
//
// The answers stand in the order of the hypotheses; the score of each is the sum of its log-probabilities.
class SampleSearch final : public SearchState {
 public:
  void Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) override;
  std::span<const int32_t> StablePrefix(int known) const override;  // of the first hypothesis
  void Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare = nullptr) const override;

 private:
  struct Drawn {
    int row = 0;     // live: of live_; ended: of ended_
    int length = 0;  // ended: tokens, the prefix included; 0: it lives
    int parent = 0;  // ended: the row that its last token followed
    float sum = 0;   // of the log-probabilities
    FinishReason reason = FinishReason::kLength;
  };

  void Begin() override;
  // The hypothesis has one more token: it ends, or has one of the next rows.
  void Append(Drawn& hypothesis, int32_t token, float logprob);

  std::vector<Drawn> hypotheses_;
  HypothesisSlots ended_;  // each in the slot of its number
  HypothesisSlots next_;   // a step's scratch
  std::vector<int32_t> parents_of_next_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_SAMPLE_H_
