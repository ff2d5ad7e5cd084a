// AMX's instructions. The compilers' own intrinsics do not say which memory a tile instruction reads and writes, so
// that a store before or a load behind it may move across: here each says so.
//
// Names of tiles are part of an instruction: template arguments.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_INSTRUCTIONS_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_INSTRUCTIONS_INL_H_

#include <cstdint>

#include "engine/backend/cpu/amx/tile_config.h"

namespace elserve::cpu {
namespace {

inline void LoadTileConfig(const TileConfig& config) { __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory"); }
inline void ReleaseTiles() { __asm__ volatile("tilerelease" ::: "memory"); }

template <int kTile>
inline void ZeroTile() {
  __asm__ volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

// Rows of 64 bytes, `stride` bytes from one to the next.
template <int kTile>
inline void LoadTile(const void* from, int64_t stride) {
  __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(stride) : "memory");
}
template <int kTile>
inline void StoreTile(void* to, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to), "r"(stride) : "memory");
}

// sum [16 x 16 float32] += a [16 rows x 16 units] * b [16 units x 16 columns], a unit being two bfloat16.
template <int kSum, int kA, int kB>
inline void MultiplyTiles() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

// The same of int32 sums, a unit being four int8.
template <int kSum, int kA, int kB>
inline void MultiplyInt8Tiles() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_INSTRUCTIONS_INL_H_
