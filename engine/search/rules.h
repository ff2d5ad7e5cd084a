// The logits rules as data: what the device has to do to one row's next-token values before it takes the best of them.
// transformers' logits processors (generation/logits_process.py), in their order, resolved to at most one edit a token.
#ifndef ELSERVE_ENGINE_SEARCH_RULES_H_
#define ELSERVE_ENGINE_SEARCH_RULES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/decoding.h"

namespace elserve {

// What `first` and then `second` do to a token, as one edit. A ban stays one. `second` must not add where `first`
// multiplies: transformers' processors add first (sequence_bias), and no single edit would do both.
LogitEdit Then(const LogitEdit& first, const LogitEdit& second);

// One step's edits of all rows. Spans into it stay valid until Clear. It has room for `capacity` edits, of one row
// for `row`, and allocates only for more.
class EditBuffer {
 public:
  EditBuffer(int64_t capacity, int64_t row);
  explicit EditBuffer(int64_t capacity) : EditBuffer(capacity, capacity) {}
  EditBuffer(const EditBuffer&) = delete;
  EditBuffer& operator=(const EditBuffer&) = delete;

  void Clear();

  // A row's edits: Add() them in the order of transformers' processors, then FinishRow() merges those that meet on a
  // token and returns the rest, by token.
  void BeginRow() { row_.clear(); }
  void Add(const LogitEdit& edit) { row_.push_back({edit, row_.size()}); }
  // The edit for each of the tokens, once for one that stands there more often.
  void AddEach(std::span<const int32_t> tokens, LogitEdit edit);
  void Ban(int32_t token) { Add({.token = token, .ban = true}); }
  std::span<const LogitEdit> FinishRow();

  // Numbers that a rule needs while it looks at a row.
  std::vector<int32_t>& scratch() { return scratch_; }

 private:
  struct Added {
    LogitEdit edit;
    size_t order;  // equal ones came with one AddEach
  };
  std::vector<Added> row_;
  std::vector<int32_t> scratch_;
  // The finished rows, each within one chunk; a chunk never grows beyond what was reserved for it, so none ever moves.
  std::vector<std::vector<LogitEdit>> chunks_;
  size_t chunk_ = 0;  // that rows go to
};

struct RowRules {
  // true (beams): log-softmax first, then the edits. false (greedy): edits on the raw logits.
  bool log_probs = false;
  int count = 1;  // candidates wanted
  // If not empty, these tokens have value 0 and all others -infinity. Points into the spec.
  std::span<const int32_t> force;
  std::span<const LogitEdit> edits;  // one a token at most, by token; points into the EditBuffer
  bool renormalize = false;          // log-softmax once more over what the edits or the forcing left
  // The device does not rank: all of the row's logits come to the host, where RowValues applies what stands here.
  bool whole = false;
  // Whole rows alone: after the edits or the forcing, values that are no finite numbers become such.
  bool remove_invalid = false;
  std::span<const LogitEdit> late_edits;  // where remove_invalid: edits behind that
};

// Candidates that a row of this spec needs: greedy 1; beams those of a group + number of EOS ids; sampling top_k and
// kMaxTies, of which those that are as likely as the top_k-th stay.
int CandidatesPerRow(const DecodingSpec& spec);
// Whether no number of candidates is enough (RowRules::whole).
bool NeedsWholeRows(const DecodingSpec& spec);

// The rules for the token that follows `tokens` (the prefix first). `source`: what the encoder read, or the prompt; may
// be empty where NeedsSource(spec) is false. The spec has to outlive the result. At most MaxEditsPerRow edits are added
// to the buffer.
RowRules RulesFor(const DecodingSpec& spec, std::span<const int32_t> source, std::span<const int32_t> tokens,
                  EditBuffer& edits);
// Whether some rule goes by the source.
bool NeedsSource(const DecodingSpec& spec);

// The most edits that one row, and that all rows of the sequence together, ever need in one step.
int64_t MaxEditsPerRow(const DecodingSpec& spec, int source_tokens);
int64_t MaxEdits(const DecodingSpec& spec, int source_tokens);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_RULES_H_
