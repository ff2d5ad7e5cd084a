// 16 float32 lanes in AVX-512. Included by the translation units of the AVX-512 levels alone.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AVX512_VEC512_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AVX512_VEC512_INL_H_

#include <immintrin.h>

#include <cstdint>

namespace elserve::cpu {
namespace {

struct Vec512 {
  using F = __m512;
  using I = __m512i;
  static constexpr int kLanes = 16;

  static __mmask16 Mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }
  static F Zero() { return _mm512_setzero_ps(); }
  static F Set(float x) { return _mm512_set1_ps(x); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static F LoadN(const float* p, int n) { return _mm512_maskz_loadu_ps(Mask(n), p); }
  static void Store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static void StoreN(float* p, F x, int n) { _mm512_mask_storeu_ps(p, Mask(n), x); }
  static I LoadUnits(const uint32_t* p) { return _mm512_loadu_si512(p); }
  static I LoadUnitsN(const uint32_t* p, int n) { return _mm512_maskz_loadu_epi32(Mask(n), p); }
  static I Broadcast(const uint32_t* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static F Min(F a, F b) { return _mm512_min_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F Abs(F a) { return _mm512_abs_ps(a); }
  static F Round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // x, or what Scale makes 0 of where x is less; a NaN stays one.
  static F BoundExponent(F x) { return Max(Set(-160.0f), x); }
  // p * 2^n for whole n.
  static F Scale(F p, F n) { return _mm512_scalef_ps(p, n); }
  // 2^x, relative error 7.5e-5: for weights that are rounded to bfloat16 next. Any x up to 127: 0 for -infinity.
  static F Exp2Cubic(F x) {
    const F r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    F p = Fma(Set(7.802452e-2f), r, Set(2.2606717e-1f));
    p = Fma(p, r, Set(6.9583353e-1f));
    p = Fma(p, r, Set(9.9992522e-1f));
    return _mm512_scalef_ps(p, x);
  }
  static float ReduceAdd(F a) { return _mm512_reduce_add_ps(a); }
  // Of a, then of b: its first two quarters' sum, and its last two's.
  static F AddQuarters(F a, F b) {
    const I x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
    return Add(AsFloat(_mm512_shuffle_i32x4(x, y, 0x88)), AsFloat(_mm512_shuffle_i32x4(x, y, 0xDD)));
  }
  // The sum of each vector, in its lane.
  static F SumEach(const F (&a)[kLanes]) {
    F pairs[8], fours[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const I x = _mm512_castps_si512(a[2 * i]), y = _mm512_castps_si512(a[2 * i + 1]);
      pairs[i] = Add(AsFloat(_mm512_unpacklo_epi32(x, y)), AsFloat(_mm512_unpackhi_epi32(x, y)));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const I x = _mm512_castps_si512(pairs[2 * i]), y = _mm512_castps_si512(pairs[2 * i + 1]);
      fours[i] = Add(AsFloat(_mm512_unpacklo_epi64(x, y)), AsFloat(_mm512_unpackhi_epi64(x, y)));
    }
    return AddQuarters(AddQuarters(fours[0], fours[1]), AddQuarters(fours[2], fours[3]));
  }
  static float ReduceMax(F a) { return _mm512_reduce_max_ps(a); }
  static uint32_t Greater(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
  static uint32_t AtLeast(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  // x in the lanes where a is at least b, 0 in the others.
  static F WhereAtLeast(F a, F b, F x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), x); }

  static I ZeroInts() { return _mm512_setzero_si512(); }
  static I SetInts(int32_t x) { return _mm512_set1_epi32(x); }
  static void StoreUnits(uint32_t* p, I a) { _mm512_storeu_si512(p, a); }
  // The low byte of each.
  static void StoreBytes(uint8_t* p, I a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a)); }
  static I AddInts(I a, I b) { return _mm512_add_epi32(a, b); }
  static I SubInts(I a, I b) { return _mm512_sub_epi32(a, b); }
  // Each by n bytes to the left.
  static I ShiftBytes(I a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(8 * n)); }
  // Byte n of each, as it is signed.
  static I SignedByte(I a, int n) { return _mm512_srai_epi32(ShiftBytes(a, 3 - n), 24); }
  static F FromInts(I a) { return _mm512_cvtepi32_ps(a); }
  // To the nearest.
  static I ToInts(F a) { return _mm512_cvtps_epi32(a); }

  static F AsFloat(I a) { return _mm512_castsi512_ps(a); }
  // The even (low) and the odd (high) bfloat16 of each unit, as float32.
  static F Even(I a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
  static F Odd(I a) {
    return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static F LoadBf16(const uint16_t* p) {
    return Even(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
  }
  static F LoadBf16N(const uint16_t* p, int n) {
    return Even(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(Mask(n), p)));
  }
  // Rounded to nearest even; a NaN stays one.
  static I RoundBf16(F a) {
    const I bits = _mm512_castps_si512(a);
    const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const I rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    return _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
  }
  static void StoreBf16(uint16_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(RoundBf16(a)));
  }
  static void StoreBf16N(uint16_t* p, F a, int n) {
    _mm256_mask_storeu_epi16(p, Mask(n), _mm512_cvtepi32_epi16(RoundBf16(a)));
  }
  // Four rows of 64 bytes -> units of a byte of each: vector i holds columns 4 i to 4 i + 3 of each 16.
  static void Zip4(const uint32_t* row0, const uint32_t* row1, const uint32_t* row2, const uint32_t* row3, I (&to)[4]) {
    const I a = LoadUnits(row0), b = LoadUnits(row1), c = LoadUnits(row2), d = LoadUnits(row3);
    const I low = _mm512_unpacklo_epi8(a, b), low2 = _mm512_unpacklo_epi8(c, d);
    const I high = _mm512_unpackhi_epi8(a, b), high2 = _mm512_unpackhi_epi8(c, d);
    to[0] = _mm512_unpacklo_epi16(low, low2);
    to[1] = _mm512_unpackhi_epi16(low, low2);
    to[2] = _mm512_unpacklo_epi16(high, high2);
    to[3] = _mm512_unpackhi_epi16(high, high2);
  }
  // Two rows of 32 bfloat16 -> units of (row 0, row 1): `a` holds columns 0-3, 8-11, 16-19, 24-27, `b` the others.
  static void ZipBf16(const uint32_t* row0, const uint32_t* row1, I* a, I* b) {
    const I x = LoadUnits(row0), y = LoadUnits(row1);
    *a = _mm512_unpacklo_epi16(x, y);
    *b = _mm512_unpackhi_epi16(x, y);
  }
  // The sums made with ZipBf16's units, back in the order of columns.
  static void Unzip(F a, F b, F* first, F* second) {
    const I low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const I high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    *first = _mm512_permutex2var_ps(a, low, b);
    *second = _mm512_permutex2var_ps(a, high, b);
  }
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AVX512_VEC512_INL_H_
