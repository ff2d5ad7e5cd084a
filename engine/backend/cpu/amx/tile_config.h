// The shape of AMX's tiles, as LDTILECFG reads it.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_CONFIG_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_CONFIG_H_

#include <cstdint>

namespace elserve::cpu {

inline constexpr int kTiles = 8, kTileRows = 16, kTileBytes = 64;  // of a row

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of each tile; the processor has eight
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// Every tile whole, whatever rows a product has: what stands behind them is read and summed too, and nobody looks at
// those sums. A constant, because compilers' headers declare 8 of the 64 bytes as read: what a function stores into a
// variable before may be dropped.
inline constexpr TileConfig kWholeTiles = [] {
  TileConfig config;
  for (int tile = 0; tile < kTiles; ++tile) {
    config.row_bytes[tile] = kTileBytes;
    config.rows[tile] = kTileRows;
  }
  return config;
}();

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_CONFIG_H_
