// No search: tokens that are given, and what the model thinks of each.
#ifndef ELSERVE_ENGINE_SEARCH_GIVEN_TOKENS_H_
#define ELSERVE_ENGINE_SEARCH_GIVEN_TOKENS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search/search_state.h"

namespace elserve {

// The prefix from DecodingSpec::score_from on. Advance takes any number of the next tokens at once: for each, the
// candidates of the position before it, of which the first is the token itself (it was forced). Nothing is answered
// before the last one.
class GivenTokens final : public SearchState {
 public:
  void Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) override;
  std::span<const int32_t> StablePrefix(int) const override { return {}; }
  void Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare = nullptr) const override;

 private:
  void Begin() override { scored_ = 0, sum_ = 0; }

  size_t scored_ = 0;  // tokens
  float sum_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_GIVEN_TOKENS_H_
