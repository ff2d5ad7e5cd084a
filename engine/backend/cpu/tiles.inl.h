// The product by the processor's tile unit (AMX): up to 32 rows of A by one packed panel, 16 units of the sum at a
// time. A tile has up to 16 rows of 64 bytes. Tiles 0 to 3 hold the sums (two by two), 4 and 5 rows of A, 6 and 7 the
// halves of the panel, whose layout [units][32 columns] is what the unit reads. A row's sum runs over its units in
// order, whatever the other rows are.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_TILES_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_TILES_INL_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/vec512.inl.h"

namespace elserve::cpu {
namespace {

inline constexpr int kTileRows = 16, kTileUnits = 16, kTilePanel = 32;

// What LDTILECFG reads.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Rows that this thread's tiles are shaped for; 0: the unit is released.
inline thread_local int shaped_rows = 0;

inline void ShapeTiles(int rows) {
  if (rows == shaped_rows) return;
  TileShapes shapes;
  const int first = rows < kTileRows ? rows : kTileRows, second = rows - first;
  const int by_tile[8] = {first, first, second, second, first, second, kTileUnits, kTileUnits};
  for (int i = 0; i < 8; ++i) {
    // A tile without rows is left out, and not used.
    shapes.rows[i] = static_cast<uint8_t>(by_tile[i]);
    shapes.row_bytes[i] = by_tile[i] > 0 ? 64 : 0;
  }
  _tile_loadconfig(&shapes);
  shaped_rows = rows;
}

// At the end of a task: the system need not keep the tiles, and a sleeping processor may go deeper.
inline void ReleaseTiles() {
  if (shaped_rows == 0) return;
  _tile_release();
  shaped_rows = 0;
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

// Sums += rows of A [rows, 16 units] by 16 units of the panel.
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

// out [rows, ldc] = the sums.
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

#endif  // ELSERVE_ENGINE_BACKEND_CPU_TILES_INL_H_
