#include "engine/backend/reference/layout_rules.h"

#include <set>

#include "engine/backend/reference/require.h"

namespace elserve::reference {
namespace {

void RequirePages(std::span<const int32_t> pages, int64_t length, const MemorySize& memory) {
  Require(static_cast<int64_t>(pages.size()) * kPageTokens >= length, "a document's pages hold all of its tokens");
  for (int32_t page : pages) Require(page >= 0 && page < memory.encoder_pages, "a page is in encoder memory");
}

void RequireAncestry(const DecodeLayout& layout, int p, const MemorySize& memory) {
  const int32_t position_id = layout.position_ids[p];
  Require(position_id >= 0 && position_id < memory.limits.decoder_length, "a position is below decoder_length");
  Require(position_id < layout.ancestry_stride, "a position's cells fit in its part of ancestry");
  const int32_t* ancestry = layout.ancestry + p * layout.ancestry_stride;
  for (int32_t t = 0; t <= position_id; ++t) {
    Require(ancestry[t] >= 0 && ancestry[t] < memory.decoder_blocks * kBlockCells, "a cell is in decoder memory");
  }
  Require(ancestry[position_id] == layout.cells[p], "a position's own cell is the last of its ancestry");
}

}  // namespace

void RequireValid(const EncodeLayout& layout, const MemorySize& memory) {
  const int positions = layout.positions();
  Require(positions <= memory.limits.encode_positions, "encode positions are within the limit");
  Require(layout.position_ids.size() == layout.tokens.size(), "every encode position has a position id");
  int end = 0;
  for (const EncodeDocument& document : layout.documents) {
    Require(document.begin == end && document.length > 0, "encode documents lie end to end");
    Require(document.length <= memory.limits.source_length, "a document is within source_length");
    end += document.length;
    if (!document.pages.empty()) RequirePages(document.pages, document.length, memory);
  }
  Require(end == positions, "encode documents hold all positions");
}

void RequireValid(const DecodeLayout& layout, const MemorySize& memory) {
  const int positions = layout.positions();
  Require(positions <= memory.limits.decode_positions, "decode positions are within the limit");
  Require(layout.position_ids.size() == layout.tokens.size(), "every decode position has a position id");
  Require(layout.cells.size() == layout.tokens.size(), "every decode position has a cell");
  Require(std::set<int32_t>(layout.cells.begin(), layout.cells.end()).size() == layout.cells.size(),
          "no two positions write one cell");
  for (int p = 0; p < positions; ++p) RequireAncestry(layout, p, memory);

  std::vector<int> documents_of(positions, 0);
  for (const DecodeDocument& document : layout.documents) {
    Require(document.begin >= 0 && document.positions > 0 && document.begin + document.positions <= positions,
            "a decode document's positions are the step's");
    Require(document.length > 0 && document.length <= memory.limits.source_length,
            "a decode document is within source_length");
    RequirePages(document.pages, document.length, memory);
    Require(document.bias.size() % document.length == 0, "a document's bias has a value for each head and token");
    for (int p = 0; p < document.positions; ++p) ++documents_of[document.begin + p];
  }
  for (int count : documents_of) Require(count == 1, "every decode position is one document's");

  Require(static_cast<int>(layout.select.size()) <= memory.limits.select_rows, "select rows are within the limit");
  for (const SelectRow& row : layout.select) {
    Require(row.position >= 0 && row.position < positions, "a select row's position is the step's");
    Require(row.count >= 1 && row.count <= kMaxCandidates, "a row asks for 1 to kMaxCandidates candidates");
  }
}

}  // namespace elserve::reference
