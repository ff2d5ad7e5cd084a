// Greedy search, as transformers 5.23 (generation/utils.py, _sample without do_sample).
#ifndef ELSERVE_ENGINE_SEARCH_GREEDY_H_
#define ELSERVE_ENGINE_SEARCH_GREEDY_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search/search_state.h"

namespace elserve {

// One row: the best next token, until it is an EOS or completes a stop string, or the length is max_length.
class GreedySearch final : public SearchState {
 public:
  void Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) override;
  std::span<const int32_t> StablePrefix(int known) const override;
  void Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare = nullptr) const override;

 private:
  void Begin() override { sum_ = 0, reason_ = FinishReason::kLength; }

  float sum_ = 0;  // of the log-probabilities
  FinishReason reason_ = FinishReason::kLength;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_GREEDY_H_
