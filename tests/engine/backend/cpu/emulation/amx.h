// AMX-TILE, AMX-BF16 and AMX-INT8 in software: avx512_bf16.h, and the thread's eight tiles, in the place of the
// kernels' tile_instructions.inl.h. What a processor answers with a fault ends the process with a message; so does what
// it lets pass and no kernel can mean.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AMX_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AMX_H_

#include <cstdio>
#include <cstdlib>

#include "engine/backend/cpu/amx/tile_config.h"
#include "tests/engine/backend/cpu/emulation/avx512_bf16.h"

#ifdef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_INSTRUCTIONS_INL_H_
#error "to be included before the kernels"
#endif
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_INSTRUCTIONS_INL_H_

namespace elserve::cpu {

struct EmulatedTile {
  static constexpr int kMostRows = 16, kMostBytes = 64;
  int rows = 0, row_bytes = 0;  // 0: the tile is not there
  alignas(64) uint8_t data[kMostRows][kMostBytes];

  // Every byte outside of the shape is zero after an instruction that writes the tile.
  void Clear() { std::memset(data, 0, sizeof(data)); }
};
struct EmulatedTiles {
  bool configured = false;
  EmulatedTile tile[8];
};
inline thread_local EmulatedTiles emulated_tiles;

template <class... Values>
[[noreturn]] void TileFault(const char* instruction, const char* format, Values... values) {
  std::fprintf(stderr, "emulated AMX: %s: ", instruction);
  std::fprintf(stderr, format, values...);
  std::fputc('\n', stderr);
  std::abort();
}

inline EmulatedTile& TileAt(const char* instruction, int tile) {
  if (!emulated_tiles.configured) TileFault(instruction, "the tiles of this thread are not configured");
  if (tile < 0 || tile > 7) TileFault(instruction, "there is no tile %d", tile);
  EmulatedTile& t = emulated_tiles.tile[tile];
  if (t.rows == 0) TileFault(instruction, "tile %d has no rows in the configuration", tile);
  return t;
}

inline void ReleaseTiles() { emulated_tiles.configured = false; }

// The processor clears the tiles; here they are full of NaN, since a sum that begins without _tile_zero is a mistake
// that shows only in the second product under one configuration.
inline void LoadTileConfig(const TileConfig& config) {
  constexpr const char* kName = "ldtilecfg";
  uint8_t byte[64];
  std::memcpy(byte, &config, sizeof(byte));
  if (byte[0] != 1) TileFault(kName, "palette is %d, allowed is 1", byte[0]);
  if (byte[1] != 0) TileFault(kName, "start_row is %d, allowed is 0", byte[1]);
  const auto reserved = [](int at) { return (at >= 2 && at < 16) || (at >= 32 && at < 48) || at >= 56; };
  for (int at = 0; at < 64; ++at) {
    if (reserved(at) && byte[at] != 0) TileFault(kName, "byte %d is %d and has to be 0", at, byte[at]);
  }
  for (int i = 0; i < 8; ++i) {
    EmulatedTile& t = emulated_tiles.tile[i];
    t.rows = byte[48 + i];
    t.row_bytes = byte[16 + 2 * i] | byte[17 + 2 * i] << 8;
    if (t.rows > EmulatedTile::kMostRows || t.row_bytes > EmulatedTile::kMostBytes)
      TileFault(kName, "tile %d has %d rows of %d bytes; at most 16 of 64", i, t.rows, t.row_bytes);
    if ((t.rows == 0) != (t.row_bytes == 0) || t.row_bytes % 4 != 0)
      TileFault(kName, "tile %d has %d rows of %d bytes: both or none, and whole units", i, t.rows, t.row_bytes);
    std::memset(t.data, 0xff, sizeof(t.data));
  }
  emulated_tiles.configured = true;
}

template <int kTile>
void ZeroTile() {
  TileAt("tilezero", kTile).Clear();
}

template <int kTile>
void LoadTile(const void* base, int64_t stride) {
  EmulatedTile& t = TileAt("tileloadd", kTile);
  t.Clear();
  for (int m = 0; m < t.rows; ++m) {
    std::memcpy(t.data[m], static_cast<const uint8_t*>(base) + m * stride, static_cast<size_t>(t.row_bytes));
  }
}

template <int kTile>
void StoreTile(void* base, int64_t stride) {
  const EmulatedTile& t = TileAt("tilestored", kTile);
  if (stride < t.row_bytes && stride > -t.row_bytes && t.rows > 1)
    TileFault("tilestored", "rows of %d bytes at a stride of %d overlap", t.row_bytes, static_cast<int>(stride));
  for (int m = 0; m < t.rows; ++m) {
    std::memcpy(static_cast<uint8_t*>(base) + m * stride, t.data[m], static_cast<size_t>(t.row_bytes));
  }
}

// While it lives, the thread flushes denormals, as the instruction does in any mode.
class FlushedMode {
 public:
  FlushedMode() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~FlushedMode() { _mm_setcsr(before_); }
  FlushedMode(const FlushedMode&) = delete;
  FlushedMode& operator=(const FlushedMode&) = delete;

 private:
  const unsigned before_;
};

// One row, in FlushedMode: c[16] += a[units] * b[units][16], where a unit is a pair. Elements 0 and 1 of the pairs are
// summed apart.
inline void MultiplyTileRow(const uint32_t* a, const __m256 (*b)[2][2], int units, float* c) {
  __m256 sums[2][2] = {};  // [element][half]
  for (int k = 0; k < units; ++k) {
    const __m256 x[2] = {_mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(a[k] << 16))),
                         _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(a[k] & 0xffff0000u)))};
    for (int element = 0; element < 2; ++element) {
      for (int half = 0; half < 2; ++half)
        sums[element][half] = _mm256_fmadd_ps(x[element], b[k][element][half], sums[element][half]);
    }
  }
  for (int half = 0; half < 2; ++half) {
    float* to = c + 8 * half;
    _mm256_storeu_ps(to, _mm256_add_ps(_mm256_loadu_ps(to), _mm256_add_ps(sums[0][half], sums[1][half])));
  }
}

// Of a product's sum c += x * y.
struct TileNames {
  int sum, a, b;
};
inline void CheckShapes(const char* instruction, TileNames names, const EmulatedTile& c, const EmulatedTile& x,
                        const EmulatedTile& y) {
  if (names.sum == names.a || names.sum == names.b || names.a == names.b)
    TileFault(instruction, "tiles %d, %d and %d are not three", names.sum, names.a, names.b);
  if (c.rows != x.rows || c.row_bytes != y.row_bytes || x.row_bytes != 4 * y.rows)
    TileFault(instruction, "[%d, %d bytes] += [%d, %d bytes] * [%d, %d bytes]", c.rows, c.row_bytes, x.rows,
              x.row_bytes, y.rows, y.row_bytes);
}

// TDPBF16PS: sum [m, n] += a [m, k] * b [k, n], in 32-bit units.
template <int kSum, int kA, int kB>
void MultiplyTiles() {
  constexpr const char* kName = "tdpbf16ps";
  EmulatedTile &c = TileAt(kName, kSum), &x = TileAt(kName, kA), &y = TileAt(kName, kB);
  CheckShapes(kName, {kSum, kA, kB}, c, x, y);
  __m256 columns[EmulatedTile::kMostRows][2][2];  // [unit][element][half]
  for (int k = 0; k < y.rows; ++k) {
    for (int half = 0; half < 2; ++half) {
      const __m256i pairs = _mm256_load_si256(reinterpret_cast<const __m256i*>(y.data[k] + 32 * half));
      columns[k][0][half] = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
      columns[k][1][half] = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000)));
    }
  }
  const FlushedMode mode;
  for (int m = 0; m < c.rows; ++m) {
    uint32_t units[16];
    float out[16];
    std::memcpy(units, x.data[m], sizeof(units));
    std::memcpy(out, c.data[m], sizeof(out));
    MultiplyTileRow(units, columns, y.rows, out);
    std::memcpy(c.data[m], out, static_cast<size_t>(c.row_bytes));
  }
}

// TDPBSSD: the same of int32 sums and four signed bytes a unit.
template <int kSum, int kA, int kB>
void MultiplyInt8Tiles() {
  constexpr const char* kName = "tdpbssd";
  EmulatedTile &c = TileAt(kName, kSum), &x = TileAt(kName, kA), &y = TileAt(kName, kB);
  CheckShapes(kName, {kSum, kA, kB}, c, x, y);
  for (int m = 0; m < c.rows; ++m) {
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      int32_t sum;
      std::memcpy(&sum, c.data[m] + 4 * n, sizeof(sum));
      for (int i = 0; i < x.row_bytes; ++i) {
        sum += static_cast<int8_t>(x.data[m][i]) * static_cast<int8_t>(y.data[i / 4][4 * n + i % 4]);
      }
      std::memcpy(c.data[m] + 4 * n, &sum, sizeof(sum));
    }
  }
}

}  // namespace elserve::cpu

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AMX_H_
