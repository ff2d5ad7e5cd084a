// The memory of one task of EL-attention on tiles, and how the task is cut into them.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_SCRATCH_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_SCRATCH_INL_H_

#include <cstdint>

#include "engine/backend/cpu/amx/tile_layout.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// Tokens that products take at once: two tiles of states for each 32 columns.
inline constexpr int kStepTokens = kStateStep, kStripSteps = kStripTokens / kStepTokens;
inline constexpr int kPanelColumns = 32;
// Of a task at most: four tiles.
inline constexpr int kMostTileQueries = 4 * kTileRows;

// Queries in tiles of 16. Products take `group` tiles of queries at a time: as many as leave the processor's eight
// tiles room for their sums. No query's sums depend on it.
struct QueryTiles {
  explicit QueryTiles(int queries) : count((queries + kTileRows - 1) / kTileRows), group(count == 4 ? 2 : count) {}
  int groups() const { return count / group; }
  // The first of tile `tile`'s own among tiles that are laid [groups][n][group]; the others follow `group` tiles apart.
  int64_t First(int tile, int64_t n) const { return tile / group * group * n + tile % group; }

  int count;
  int group;
};

// All of it in tiles of 1 KiB, end to end. [groups][n][group]: what a product takes together stands side by side.
struct TileElScratch {
  TileElScratch(float* memory, int64_t panels) {
    float* at = FirstBoundary(memory);
    const auto take = [&at](int64_t tiles) {
      float* const taken = at;
      at += tiles * kTileSize;
      return taken;
    };
    q = reinterpret_cast<uint32_t*>(take(kQueryTiles * panels));
    sums = take(kQueryTiles * 2 * panels);
    scores[0] = take(kQueryTiles * kStripTokens / kTileRows);
    scores[1] = take(kQueryTiles * kStripTokens / kTileRows);
    weights = reinterpret_cast<uint32_t*>(take(kQueryTiles * kStripSteps));
    values = reinterpret_cast<uint32_t*>(take(2 * kValueSlots));
    reference = take(1);
    total = reference + kMostTileQueries;
    scale = total + kMostTileQueries;
  }
  static int64_t Floats(int64_t panels) {
    constexpr int64_t kFixed =
        2 * kQueryTiles * kStripTokens / kTileRows + kQueryTiles * kStripSteps + 2 * kValueSlots + 1;
    return (3 * kQueryTiles * panels + kFixed) * kTileSize + kScratchBoundary;
  }

  static constexpr int kQueryTiles = kMostTileQueries / kTileRows;
  // A strip's steps, and the two that are made ahead.
  static constexpr int kValueSlots = kStripSteps + 2;

  uint32_t* q;        // [panels]: 16 units by 16 queries
  float* sums;        // [panels]: two tiles for each of queries, 16 queries by 16 columns in ZipBf16's order
  float* scores[2];   // of even and of odd strips. [kStripTokens / 16]: 16 tokens by 16 queries
  uint32_t* weights;  // [kStripSteps]: 16 queries by 16 pairs of tokens
  uint32_t* values;   // [kValueSlots]: two tiles of 16 pairs of tokens by 16 columns, in ZipBf16's order
  // Of each query: what its scores' maximum is taken to be, in powers of 2; the sum of its weights by that; and what
  // the sums before this strip are to be multiplied by.
  float *reference, *total, *scale;
};
static_assert(3 * kMostTileQueries <= kTileSize);

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_SCRATCH_INL_H_
