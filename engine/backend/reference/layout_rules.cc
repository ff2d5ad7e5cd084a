#include "engine/backend/reference/layout_rules.h"

#include <set>

#include "engine/backend/reference/require.h"

namespace elserve::reference {
namespace {

void RequirePages(std::span<const int32_t> pages, int64_t length, const MemorySize& memory) {
  Require(static_cast<int64_t>(pages.size()) * kPageTokens >= length, "a document's pages hold all of its tokens");
  for (int32_t page : pages) Require(page >= 0 && page < memory.encoder_pages, "a page is in encoder memory");
}

void RequireAncestry(const DecodeRow& row, const MemorySize& memory) {
  const int64_t length = int64_t{row.first} + row.positions;
  Require(row.first >= 0 && length <= memory.limits.decoder_length, "a position is below decoder_length");
  Require(static_cast<int64_t>(row.ancestry.size()) == length, "a row's ancestry has a cell for each position");
  for (const int32_t cell : row.ancestry) {
    Require(cell >= 0 && cell < memory.decoder_blocks * kBlockCells, "a cell is in decoder memory");
  }
}

// Their positions are the layout's, in order, and no two of them write one cell.
void RequireRows(const DecodeLayout& layout, const MemorySize& memory) {
  std::set<int32_t> written;
  int positions = 0;
  for (const DecodeRow& row : layout.rows) {
    Require(row.begin == positions && row.positions > 0, "decode rows lie end to end");
    RequireAncestry(row, memory);
    for (int j = 0; j < row.positions; ++j) {
      Require(positions < layout.positions(), "decode rows hold no more than all positions");
      Require(layout.position_ids[positions++] == row.first + j, "a position's id is its place in its row");
      Require(written.insert(row.ancestry[row.first + j]).second, "no two positions write one cell");
    }
  }
  Require(positions == layout.positions(), "decode rows hold all positions");
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

void RequireValid(const DecodeLayout& layout, Phase phase, const MemorySize& memory) {
  const int positions = layout.positions();
  const bool prefill = phase == Phase::kPrefill;
  Require(positions <= (prefill ? memory.limits.prefill_positions : memory.limits.decode_positions),
          "a phase's positions are within the limit");
  Require(layout.position_ids.size() == layout.tokens.size(), "every decode position has a position id");
  RequireRows(layout, memory);
  int64_t history = 0;
  for (const DecodeRow& row : layout.rows) {
    Require(prefill || row.positions == 1, "a row that decodes has one position");
    history += row.first + row.positions;
  }
  Require(!prefill || history <= memory.limits.prefill_history, "the prefill rows' history is within the limit");

  std::vector<int> documents_of(positions, 0);
  for (const DecodeDocument& document : layout.documents) {
    Require(document.begin >= 0 && document.positions > 0 && document.begin + document.positions <= positions,
            "a decode document's positions are the step's");
    if (memory.cross_attention) {
      Require(document.length > 0 && document.length <= memory.limits.source_length,
              "a decode document is within source_length");
      RequirePages(document.pages, document.length, memory);
      Require(document.bias.size() % document.length == 0, "a document's bias has a value for each head and token");
    } else {
      Require(document.length == 0 && document.pages.empty() && document.bias.empty(),
              "a decode document has a source only where there is cross-attention");
    }
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
