// Made-up documents, hypotheses and memory for attention tests.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_DECODE_WORLD_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_DECODE_WORLD_H_

#include <cstdint>
#include <span>
#include <vector>

#include "tests/engine/backend/session.h"

namespace elserve {

struct DocumentSpec {
  int length = 1;         // source tokens
  int rows = 1;           // hypotheses
  int history = 0;        // positions of each that earlier steps wrote
  int new_positions = 1;  // that this step feeds
};

// Documents with pages in random order, and rows whose histories share, cross and skip cells at random.
class DecodeWorld {
 public:
  DecodeWorld(uint32_t seed, std::vector<DocumentSpec> documents);

  struct Position {
    int document = 0;
    int32_t position_id = 0;
    std::vector<int32_t> ancestry;  // its own cell last
  };
  const std::vector<DocumentSpec>& documents() const { return documents_; }
  const std::vector<Position>& positions() const { return positions_; }
  std::span<const int32_t> pages(int document) const { return pages_[document]; }
  int64_t page_count() const { return page_count_; }
  int64_t block_count() const { return block_count_; }
  StepLimits Limits() const;

  // A step of these positions, in this order; those of one document stand together.
  OwnedStep Step(std::span<const int> positions) const;
  // Steps' worth of all positions: random ones of random documents, in random order of documents.
  std::vector<std::vector<int>> Batches(uint32_t seed) const;

  // Writes to every cell of the layer, own cells included: what a row reads must come from earlier steps' values.
  // `states`, `query` and `output` are tensors of SelfAttention's for this memory; `values`: [block_count * 16, columns
  // of the states].
  void FillCells(Session& session, int layer, Tensor states, std::span<const float> values, Tensor query,
                 Tensor output) const;
  // Writes each page of the layer with `values`, [page_count * 64, width], page after page.
  void FillPages(Session& session, int layer, Tensor states, std::span<const float> values) const;
  // Stores the documents' states, laid end to end.
  void StoreDocuments(Session& session, int layer, Tensor states, std::span<const float> values) const;
  // Source tokens of all documents.
  int64_t SourceTokens() const;

 private:
  std::vector<DocumentSpec> documents_;
  std::vector<std::vector<int32_t>> pages_;
  std::vector<Position> positions_;
  int64_t page_count_ = 0;
  int64_t block_count_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_DECODE_WORLD_H_
