// What else a search could have chosen: the most likely tokens of each step, in memory taken once.
#ifndef ELSERVE_ENGINE_SEARCH_ALTERNATIVES_LOG_H_
#define ELSERVE_ENGINE_SEARCH_ALTERNATIVES_LOG_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/decoding.h"
#include "engine/search/decoded_row.h"

namespace elserve {

// Rows branch and die, so a hypothesis' steps are found from its end, from each row to its parent.
class AlternativesLog {
 public:
  // Empties it. It has room for `steps` steps of `rows` rows with `count` alternatives each.
  void Reserve(int count, int rows, int steps);

  // A step: of each of its rows the row of the step before that it continues, and its most likely tokens, most likely
  // first: `count` of them, or as many as the vocabulary has.
  void Add(std::span<const int32_t> parents, std::span<const DecodedRow> most_likely);

  // Of each of the first `tokens` steps what `row` of the last of them, or the row that it continues, could have
  // chosen, step by step. `alternatives` is overwritten.
  void Collect(int row, int tokens, std::vector<TokenLogprob>* alternatives) const;

 private:
  size_t Offset(size_t step, int row) const { return step * rows_ + static_cast<size_t>(row); }

  size_t count_ = 0, rows_ = 0;
  size_t steps_ = 0;                  // added so far
  std::vector<int32_t> parents_;      // [steps, rows]
  std::vector<TokenLogprob> tokens_;  // [steps, rows, count]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_ALTERNATIVES_LOG_H_
