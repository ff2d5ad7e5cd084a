// transformers' greedy and beam search once more, the plain way: whole rows of the vocabulary, vectors that are copied,
// one function for each function there. What the tests hold engine/search/ against.
#ifndef ELSERVE_TESTS_ENGINE_SEARCH_REFERENCE_SEARCH_H_
#define ELSERVE_TESTS_ENGINE_SEARCH_REFERENCE_SEARCH_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/decoding.h"
#include "engine/search/rules.h"

namespace elserve {

// The logits that follow the given tokens: [vocabulary].
using LogitsFunction = std::function<std::vector<float>(std::span<const int32_t>)>;

std::vector<float> LogSoftmax(const std::vector<float>& logits);

// What a device does for a row: edits or forces, then takes the best.
std::vector<Candidate> SelectCandidates(const std::vector<float>& logits, const RowRules& rules);

struct ReferenceHypothesis {
  std::vector<int32_t> tokens;  // the prefix included
  float score = 0;
};
struct ReferenceResult {
  std::vector<ReferenceHypothesis> hypotheses;  // num_return_sequences
  int steps = 0;
  // The running beams after each step.
  std::vector<std::vector<ReferenceHypothesis>> running;
};

// Equal sums are ranked by beam, then by the token's own value, then by token; torch.topk promises no order.
ReferenceResult ReferenceSearch(const DecodingSpec& spec, const LogitsFunction& logits);

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_SEARCH_REFERENCE_SEARCH_H_
