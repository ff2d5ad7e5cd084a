// How vectors become tiles: turned, and in pairs.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_LAYOUT_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_LAYOUT_INL_H_

#include <immintrin.h>

#include <bit>
#include <cstdint>

#include "engine/backend/cpu/amx/tile_config.h"
#include "engine/backend/cpu/avx512/vec512.inl.h"

namespace elserve::cpu {
namespace {

// A tile in memory: 16 rows of 16 units, end to end.
inline constexpr int kTileUnits = kTileBytes / 4, kTileSize = kTileRows * kTileUnits;  // units

// Floats from one boundary of 4 KiB to the next. Scratch begins at one, as pages do: whether a load waits for a store
// to other memory depends on their places between such boundaries.
inline constexpr int64_t kScratchBoundary = 4096 / sizeof(float);
inline float* FirstBoundary(float* memory) {
  return memory + (-reinterpret_cast<uintptr_t>(memory) / sizeof(float)) % kScratchBoundary;
}

// 16 rows of 16 units: rows become columns.
inline void Transpose(__m512i (&r)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  // Row i of r has, in quarter q, column 4 q + i % 4 of the four rows from i - i % 4.
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // Of eight rows: quarters 0 and 2, then 1 and 3.
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
  }
}

// The first `units` units, up to 16, of row(0), row(1), ..., turned: unit by unit, a lane a row. Zeros for units and
// rows that are not there; `rows` may be any number.
template <class Row>
void LoadTurned(int rows, int units, const Row& row, __m512i (&r)[16]) {
  for (int i = 0; i < 16; ++i) r[i] = i < rows ? Vec512::LoadUnitsN(row(i), units) : _mm512_set1_epi32(0);
  Transpose(r);
}
inline void StoreWholeTile(const __m512i (&r)[16], uint32_t* to) {
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * kTileUnits, r[i]);
}

// Two vectors of 16 numbers, rounded to bfloat16 -> 16 units of one number of each: `even` is the lower one.
inline __m512i Pairs(__m512 even, __m512 odd) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_loadu_si512(kOrder), std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even)));
}

// The same, side by side: `low`'s numbers, then `high`'s.
inline __m512i Rounded(__m512 low, __m512 high) { return std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)); }

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_LAYOUT_INL_H_
