// A step's decode layout, in memory taken once.
#ifndef ELSERVE_ENGINE_DECODE_LAYOUT_BUILDER_H_
#define ELSERVE_ENGINE_DECODE_LAYOUT_BUILDER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/document_list.h"
#include "engine/search/rules.h"
#include "engine/sequence.h"

namespace elserve {

// The decode layout of all rows of the decoding sequences, sequence by sequence; those of one document stand together.
class DecodeLayoutBuilder {
 public:
  // `capacity`: the most rows, edits and pages of one step; `max_length`: tokens of a hypothesis.
  DecodeLayoutBuilder(const Resources& capacity, int max_length, const DocumentStore& store);

  // Takes a cell for each row and lists what the step reads. The spans stay valid until the next Build.
  DecodeLayout Build(std::span<Sequence* const> sequences);
  // Of each of the layout's select rows, as long.
  std::span<const RowRules> rules() const { return rules_; }

 private:
  void AddSequence(Sequence& sequence);

  EditBuffer edits_;
  std::vector<int32_t> tokens_, position_ids_;  // [rows]
  std::vector<DecodeRow> rows_;
  std::vector<SelectRow> select_;  // [select rows]
  std::vector<RowRules> rules_;    // [select rows]
  DocumentList documents_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_DECODE_LAYOUT_BUILDER_H_
