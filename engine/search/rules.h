// The logits rules as data: what the device has to do to one row's next-token values before it takes the best of them.
// transformers' logits processors (generation/logits_process.py), in their order, resolved to at most one edit a token.
#ifndef ELSERVE_ENGINE_SEARCH_RULES_H_
#define ELSERVE_ENGINE_SEARCH_RULES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/decoding.h"

namespace elserve {

// One step's edits of all rows, in memory taken once: spans into it stay valid until Clear.
class EditBuffer {
 public:
  explicit EditBuffer(int64_t capacity) { edits_.reserve(static_cast<size_t>(capacity)); }
  EditBuffer(const EditBuffer&) = delete;
  EditBuffer& operator=(const EditBuffer&) = delete;

  void Clear() { edits_.clear(); }
  int64_t size() const { return static_cast<int64_t>(edits_.size()); }
  int64_t capacity() const { return static_cast<int64_t>(edits_.capacity()); }

  // A row's edits: Ban() as often as wanted, then FinishRow() takes out double ones and returns the rest, by token.
  void BeginRow() { row_begin_ = edits_.size(); }
  void Ban(int32_t token);
  std::span<const LogitEdit> FinishRow();

 private:
  std::vector<LogitEdit> edits_;
  size_t row_begin_ = 0;
};

struct RowRules {
  // true (beams): log-softmax first, then the edits. false (greedy): edits on the raw logits.
  bool log_probs = false;
  int count = 1;  // candidates wanted
  // If not empty, these tokens have value 0 and all others -infinity. Points into the spec.
  std::span<const int32_t> force;
  std::span<const LogitEdit> edits;  // one a token at most; points into the EditBuffer
};

// Candidates that a row of this spec needs: greedy 1; beams num_beams + number of EOS ids.
int CandidatesPerRow(const DecodingSpec& spec);

// The rules for the token that follows `tokens` (the decoder start token first). The spec has to outlive the result.
// The buffer needs room for MaxEditsPerRow(spec) more.
RowRules RulesFor(const DecodingSpec& spec, std::span<const int32_t> tokens, EditBuffer& edits);

// The most edits that one row, and that all rows of the sequence together, ever need in one step.
int64_t MaxEditsPerRow(const DecodingSpec& spec);
int64_t MaxEdits(const DecodingSpec& spec);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_RULES_H_
