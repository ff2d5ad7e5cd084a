// What attention kernels work on: a step's queries cut into tiles, and a tile's tokens into splits. Made on the host
// from the step's layout, read by the kernels from device memory; pure arithmetic, no device.
//
// A lane is one head of one position: lane p * heads + i. In the EL form all lanes of a document read the same states,
// so a tile is up to kTileLanes lanes of it, whatever positions they belong to. In the K/V form heads read different
// keys: a tile is up to kTilePositions positions, for each head in turn.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_WORK_ITEMS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_WORK_ITEMS_H_

#include <cstdint>

#include "engine/backend/backend.h"

namespace elserve::cuda {

inline constexpr int kTileLanes = 32;      // EL, cross-attention
inline constexpr int kSelfTileLanes = 16;  // EL, self-attention: the lanes of one position
inline constexpr int kTilePositions = 16;  // K/V, cross-attention; self-attention takes one position at a time
inline constexpr int kEncoderTile = 128;   // queries of the encoder's attention
inline constexpr int kMaxSplits = 16;

// A tile of queries over one split of its tokens.
struct alignas(16) AttentionItem {
  int32_t first = 0;   // EL: its first lane; K/V: its first position
  int32_t count = 0;   // lanes or positions
  int32_t source = 0;  // where its tokens begin: cross-attention: in the page list (a split begins with a page);
                       // self-attention: in the ancestry
  int32_t tokens = 0;  // at least 1
  int16_t split = 0;
  int16_t splits = 1;   // at most kMaxSplits; 1: the output is written at once
  int32_t begin = 0;    // tokens of the document or the ancestry before this split's
  int32_t partial = 0;  // of a tile in splits: row r of split s is partial row partial + s * count + r (K/V: times
                        // heads, plus the head)
  int32_t arrival = 0;  // of a tile in splits: its counter (K/V: times heads, plus the head)
};

// A tile of an encoder document's queries, for each head in turn.
struct alignas(16) EncodeItem {
  int32_t first = 0;  // position
  int32_t count = 0;  // at most kEncoderTile
  int32_t begin = 0;  // the document's first position
  int32_t length = 0;
};

struct AttentionGeometry {
  bool el = true;
  int heads = 0;
  int d = 0;
  int head_dim = 0;
};

// Tokens of a split: by the row's own length alone, a multiple of 64. Splits let few rows fill the device; their
// partial results cost memory traffic, in the EL form (d numbers a lane) as much as reading tokens does, so it splits
// late.
int SplitTokens(const AttentionGeometry& geometry, int length);

// `items` has room for what the bound below says. Longest first, so that blocks which take every n-th item end
// together; tiles of one split of one document stand together, so that the second finds its states in the cache.
// Returns the count.
// `documents`: of which ones; scores with biases have a kernel of their own.
enum class CrossDocuments { kAll, kWithBias, kWithoutBias };
int PlanCrossAttention(const AttentionGeometry& geometry, const DecodeLayout& layout, AttentionItem* items,
                       CrossDocuments documents = CrossDocuments::kAll);
// As the ancestry is laid out on the device: row after row.
int PlanSelfAttention(const AttentionGeometry& geometry, const DecodeLayout& layout, AttentionItem* items);
int PlanEncoderAttention(const EncodeLayout& layout, EncodeItem* items);

// The most that a step of so many positions needs, when no document (cross) or history (self) is longer than `length`:
// of length 0 there are no items.
struct AttentionBounds {
  int64_t items = 0;
  int64_t arrivals = 0;      // counters of AttentionWorkspace::arrivals
  int64_t partial_rows = 0;  // float2 of AttentionWorkspace::scales
  int64_t sums = 0;          // floats of AttentionWorkspace::sums
};
AttentionBounds BoundCrossAttention(const AttentionGeometry& geometry, int positions, int length);
AttentionBounds BoundSelfAttention(const AttentionGeometry& geometry, int positions, int length);
// Items of `positions` encoded tokens of any number of documents.
int64_t BoundEncoderAttention(int positions);

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_WORK_ITEMS_H_
