// What a search is given of each of its rows in a step.
#ifndef ELSERVE_ENGINE_SEARCH_DECODED_ROW_H_
#define ELSERVE_ENGINE_SEARCH_DECODED_ROW_H_

#include <cstddef>
#include <span>
#include <vector>

#include "engine/decoding.h"
#include "engine/search/distribution.h"
#include "engine/search/row_values.h"
#include "engine/search/rules.h"

namespace elserve {

// What the device found of a row.
struct DecodedRow {
  // RowRules::count of the best by value, the lower token first among equals; fewer only if the vocabulary is smaller.
  // None is NaN.
  std::span<const Candidate> candidates;
  // Of a whole row instead of them: the logits of all tokens, and the rules for them.
  std::span<const float> logits = {};
  const RowRules* rules = nullptr;
};

// What looking at whole rows takes. One for each thread that advances searches.
struct RowWorkspace {
  void Reserve(int vocab) {
    values.Reserve(vocab);
    distribution.Reserve(vocab);
    best.reserve(kMaxCandidates);
    candidates.reserve(size_t{kMaxBeams} * kMaxCandidates);
  }
  RowValues values;
  Distribution distribution;
  std::vector<Candidate> best;        // of one row
  std::vector<Candidate> candidates;  // of all rows of a search
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_DECODED_ROW_H_
