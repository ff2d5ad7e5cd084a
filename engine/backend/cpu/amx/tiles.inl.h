// The product by the processor's tile unit (AMX): up to 32 rows of A by one packed panel, 16 units of the sum at a
// time. A tile has 16 rows of 64 bytes: products read and store rows up to a multiple of 16. Tiles 0 to 3 hold the sums
// (two by two), 4 and 5 rows of A, 6 and 7 the halves of the panel, whose layout [units][32 columns] is what the unit
// reads. A row's sum runs over its units in order, whatever the other rows are.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILES_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILES_INL_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/amx/tile_config.h"
#include "engine/backend/cpu/avx512/vec512.inl.h"

namespace elserve::cpu {
namespace {

inline constexpr int kTileUnits = 16, kTilePanel = 32;

inline thread_local bool tiles_are_configured = false;

inline void ConfigureTiles() {
  if (tiles_are_configured) return;
  _tile_loadconfig(&kWholeTiles);
  tiles_are_configured = true;
}

// At the end of a task: the system need not keep the tiles, and a sleeping processor may go deeper.
inline void ReleaseTiles() {
  if (!tiles_are_configured) return;
  _tile_release();
  tiles_are_configured = false;
}

// The compiler does not know which memory the tile instructions read and write.
inline void TileFence() { __asm__ volatile("" ::: "memory"); }

inline void ClearTiles(int rows) {
  _tile_zero(0);
  _tile_zero(1);
  if (rows > kTileRows) {
    _tile_zero(2);
    _tile_zero(3);
  }
}

// Sums += rows of A [rows up to a multiple of 16, 16 units] by 16 units of the panel.
inline void MultiplyTiles(int rows, const uint32_t* a, int64_t row_stride, const uint32_t* panel) {
  _tile_loadd(6, panel, kTilePanel * 4);
  _tile_loadd(7, panel + kTileUnits, kTilePanel * 4);
  _tile_loadd(4, a, row_stride * 4);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  if (rows > kTileRows) {
    _tile_loadd(5, a + kTileRows * row_stride, row_stride * 4);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
}

// The last units, fewer than a tile has, with zeros behind them.
inline void MultiplyTail(int rows, int units, const uint32_t* a, int64_t row_stride, const uint32_t* panel) {
  alignas(64) uint32_t a_tail[2 * kTileRows * kTileUnits], panel_tail[kTileUnits * kTilePanel] = {};
  for (int m = 0; m < rows; ++m) {
    Vec512::Store(reinterpret_cast<float*>(a_tail + m * kTileUnits),
                  Vec512::AsFloat(Vec512::LoadUnitsN(a + m * row_stride, units)));
  }
  std::memcpy(panel_tail, panel, static_cast<size_t>(units) * kTilePanel * 4);
  TileFence();
  MultiplyTiles(rows, a_tail, kTileUnits, panel_tail);
  TileFence();
}

inline void MultiplyPanel(int rows, int64_t units, const uint32_t* a, int64_t row_stride, const uint32_t* panel) {
  int64_t u = 0;
  for (; u + kTileUnits <= units; u += kTileUnits) MultiplyTiles(rows, a + u, row_stride, panel + u * kTilePanel);
  if (u < units) MultiplyTail(rows, static_cast<int>(units - u), a + u, row_stride, panel + u * kTilePanel);
}

// out [rows up to a multiple of 16, ldc] = the sums.
inline void StoreTiles(int rows, float* out, int64_t ldc) {
  _tile_stored(0, out, ldc * 4);
  _tile_stored(1, out + kTileUnits, ldc * 4);
  if (rows > kTileRows) {
    _tile_stored(2, out + kTileRows * ldc, ldc * 4);
    _tile_stored(3, out + kTileRows * ldc + kTileUnits, ldc * 4);
  }
  TileFence();
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILES_INL_H_
