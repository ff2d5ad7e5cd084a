// The product by the processor's tile unit (AMX): up to 32 rows of A by one packed panel, 16 units of the sum at a
// time. A tile has 16 rows of 64 bytes: products read and store rows up to a multiple of 16. Tiles 0 to 3 hold the sums
// (two by two), 4 and 5 rows of A, 6 and 7 the halves of the panel, whose layout [units][32 columns] is what the unit
// reads. A row's sum runs over its units in order, whatever the other rows are.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILES_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILES_INL_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/amx/tile_instructions.inl.h"
#include "engine/backend/cpu/amx/tile_layout.inl.h"
#include "engine/backend/cpu/avx512/vec512.inl.h"

namespace elserve::cpu {
namespace {

inline constexpr int kTilePanel = 32;

inline thread_local bool tiles_are_configured = false;

inline void ConfigureTiles() {
  if (tiles_are_configured) return;
  LoadTileConfig(kWholeTiles);
  tiles_are_configured = true;
}

// At the end of a task: the system need not keep the tiles, and a sleeping processor may go deeper.
inline void LeaveTiles() {
  if (!tiles_are_configured) return;
  ReleaseTiles();
  tiles_are_configured = false;
}

inline void ClearTiles(int rows) {
  ZeroTile<0>();
  ZeroTile<1>();
  if (rows > kTileRows) {
    ZeroTile<2>();
    ZeroTile<3>();
  }
}

// Sums += rows of A [rows up to a multiple of 16, 16 units] by 16 units of the panel.
inline void MultiplyStep(int rows, const uint32_t* a, int64_t row_stride, const uint32_t* panel) {
  LoadTile<6>(panel, kTilePanel * 4);
  LoadTile<7>(panel + kTileUnits, kTilePanel * 4);
  LoadTile<4>(a, row_stride * 4);
  MultiplyTiles<0, 4, 6>();
  MultiplyTiles<1, 4, 7>();
  if (rows > kTileRows) {
    LoadTile<5>(a + kTileRows * row_stride, row_stride * 4);
    MultiplyTiles<2, 5, 6>();
    MultiplyTiles<3, 5, 7>();
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
  MultiplyStep(rows, a_tail, kTileUnits, panel_tail);
}

inline void MultiplyPanel(int rows, int64_t units, const uint32_t* a, int64_t row_stride, const uint32_t* panel) {
  int64_t u = 0;
  for (; u + kTileUnits <= units; u += kTileUnits) MultiplyStep(rows, a + u, row_stride, panel + u * kTilePanel);
  if (u < units) MultiplyTail(rows, static_cast<int>(units - u), a + u, row_stride, panel + u * kTilePanel);
}

// out [rows up to a multiple of 16, ldc] = the sums.
inline void StoreTiles(int rows, float* out, int64_t ldc) {
  StoreTile<0>(out, ldc * 4);
  StoreTile<1>(out + kTileUnits, ldc * 4);
  if (rows > kTileRows) {
    StoreTile<2>(out + kTileRows * ldc, ldc * 4);
    StoreTile<3>(out + kTileRows * ldc + kTileUnits, ldc * 4);
  }
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILES_INL_H_
