#include "engine/backend/cpu/amx/tile_config.h"

#include <cstdint>
#include <cstring>

#include "gtest/gtest.h"

namespace elserve::cpu {
namespace {

// The 64 bytes by the processor's manual: palette 1; from byte 16 the bytes of a row of each tile, in two bytes; from
// byte 48 the rows of each. A tile that is not configured is an illegal instruction; what is reserved has to be 0.
TEST(TileConfig, ConfiguresAllTilesWhole) {
  uint8_t bytes[64];
  std::memcpy(bytes, &kWholeTiles, sizeof(bytes));
  for (int at = 0; at < 64; ++at) {
    const bool row_bytes = at >= 16 && at < 32 && at % 2 == 0, rows = at >= 48 && at < 56;
    EXPECT_EQ(bytes[at], at == 0 ? 1 : row_bytes ? 64 : rows ? 16 : 0) << "byte " << at;
  }
}

}  // namespace
}  // namespace elserve::cpu
