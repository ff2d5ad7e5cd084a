// AVX512-BF16 in software: avx512.h, and the products and the rounding of bfloat16. They round to nearest even, take
// denormals for zeros and write zeros for them, and neither ask nor change the thread's floating-point mode: with
// FTZ and DAZ or without, the bits are the same.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_BF16_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_BF16_H_

#include "tests/engine/backend/cpu/emulation/avx512.h"

namespace elserve::cpu {

// A vector of class type cannot be cast to another one, as the kernels cast __m512i; to a reference to itself it can.
using __m512bh = const __m512i&;

// Zeros of the same sign in the place of denormals. By integers: the thread's mode may take denormals for zeros.
inline __m256 Flushed(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a), sign = _mm256_set1_epi32(INT32_MIN);
  const __m256i normal = _mm256_cmpgt_epi32(_mm256_andnot_si256(sign, bits), _mm256_set1_epi32(0x007fffff));
  return _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_or_si256(normal, sign)));
}
// a, b and c are flushed already.
inline __m256 FlushedFma(__m256 a, __m256 b, __m256 c) { return Flushed(_mm256_fmadd_ps(a, b, c)); }
// Element 0 (low) and 1 (high) of each pair.
inline __m256 FlushedEven(__m256i pairs) { return Flushed(_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16))); }
inline __m256 FlushedOdd(__m256i pairs) {
  return Flushed(_mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000))));
}

// VDPBF16PS: the pair's element 1 first, an FMA each.
inline __m256 DotHalf(__m256 sum, __m256i a, __m256i b) {
  sum = FlushedFma(FlushedOdd(a), FlushedOdd(b), Flushed(sum));
  return FlushedFma(FlushedEven(a), FlushedEven(b), sum);
}
inline __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
  return {DotHalf(sum.low, a.low, b.low), DotHalf(sum.high, a.high, b.high)};
}

// VCVTNEPS2BF16; a NaN keeps its upper bits and becomes a quiet one.
inline __m256i RoundedHalf(__m256 a) {
  const __m256i bits = _mm256_castps_si256(Flushed(a));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
}
// VCVTNE2PS2BF16: `low` is rounded to the lower half.
inline __m512i _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
  return {_mm512_cvtepi32_epi16(__m512i{RoundedHalf(low.low), RoundedHalf(low.high)}),
          _mm512_cvtepi32_epi16(__m512i{RoundedHalf(high.low), RoundedHalf(high.high)})};
}
// The kernels cast the result to __m256i, which it is here.
inline __m256i _mm512_cvtneps_pbh(__m512 a) {
  return _mm512_cvtepi32_epi16(__m512i{RoundedHalf(a.low), RoundedHalf(a.high)});
}

}  // namespace elserve::cpu

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_BF16_H_
