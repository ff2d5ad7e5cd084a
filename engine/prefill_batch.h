// Prefixes on their way into decoder memory: a step's slices of them, as a layout in memory taken once.
#ifndef ELSERVE_ENGINE_PREFILL_BATCH_H_
#define ELSERVE_ENGINE_PREFILL_BATCH_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/document_list.h"
#include "engine/sequence.h"

namespace elserve {

// The last token of a prefix decodes as any other; those before it are fed here, many at once. Where the prefix is
// scored, each token that is fed selects the one behind it.
class PrefillBatch {
 public:
  // `pages`: all of encoder memory. `sequences`: the most in flight.
  PrefillBatch(const StepLimits& limits, int64_t pages, int64_t sequences, const DocumentStore& store);

  // Select rows of one sequence.
  struct Scored {
    Sequence* sequence;
    int rows;
  };

  // Of the sequences that are in Stage::kPrefill as many tokens as a step takes, those that were admitted first before
  // others; the layout has them in the order of `sequences`, where those of one document stand together. Those that
  // have no more are in Stage::kDecoding from here on, unless they are scored: their decoding may follow in the same
  // step. The spans stay valid until the next Build.
  DecodeLayout Build(std::span<Sequence* const> sequences);
  // Whose select rows the layout has, in its order.
  std::span<const Scored> scored() const { return scored_; }

 private:
  // Gives out the step's tokens.
  void Share(std::span<Sequence* const> sequences);
  void AddSlice(Sequence& sequence);

  const int positions_, history_, select_rows_;  // the most of one step
  std::vector<int32_t> tokens_, position_ids_;
  std::vector<DecodeRow> rows_;
  DocumentList documents_;
  std::vector<SelectRow> select_;
  std::vector<Scored> scored_;
  std::vector<Sequence*> waiting_;  // in Stage::kPrefill, by admission
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_PREFILL_BATCH_H_
