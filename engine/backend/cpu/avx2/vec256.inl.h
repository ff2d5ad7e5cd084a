// 8 float32 lanes in AVX2 with FMA. Included by the translation unit of the AVX2 level alone.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AVX2_VEC256_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AVX2_VEC256_INL_H_

#include <immintrin.h>

#include <cstdint>

namespace elserve::cpu {
namespace {

struct Vec256 {
  using F = __m256;
  using I = __m256i;
  static constexpr int kLanes = 8;

  static I Mask(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
  static F Zero() { return _mm256_setzero_ps(); }
  static F Set(float x) { return _mm256_set1_ps(x); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static F LoadN(const float* p, int n) { return _mm256_maskload_ps(p, Mask(n)); }
  static void Store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static void StoreN(float* p, F x, int n) { _mm256_maskstore_ps(p, Mask(n), x); }
  static I LoadUnits(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static I LoadUnitsN(const uint32_t* p, int n) {
    return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), Mask(n));
  }
  static I Broadcast(const uint32_t* p) {
    return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(p)));
  }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F Abs(F a) { return _mm256_andnot_ps(Set(-0.0f), a); }
  static F Round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // x, or what Scale makes 0 of where x is less; a NaN stays one.
  static F BoundExponent(F x) { return Max(Set(-127.0f), x); }
  // p * 2^n for whole n from -127, which makes 0, to 127.
  static F Scale(F p, F n) {
    const I exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return Mul(p, _mm256_castsi256_ps(exponent));
  }
  static float ReduceAdd(F a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  // The sum of each vector, in its lane.
  static F SumEach(const F (&a)[kLanes]) {
    const F first = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
    const F second = _mm256_hadd_ps(_mm256_hadd_ps(a[4], a[5]), _mm256_hadd_ps(a[6], a[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(first, second, 0x20), _mm256_permute2f128_ps(first, second, 0x31));
  }
  static float ReduceMax(F a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }
  static uint32_t Greater(F a, F b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
  }
  static uint32_t AtLeast(F a, F b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
  }
  // x in the lanes where a is at least b, 0 in the others.
  static F WhereAtLeast(F a, F b, F x) { return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ), x); }

  static I ZeroInts() { return _mm256_setzero_si256(); }
  static I SetInts(int32_t x) { return _mm256_set1_epi32(x); }
  static void StoreUnits(uint32_t* p, I a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
  // The low byte of each.
  static void StoreBytes(uint8_t* p, I a) {
    const I low = _mm256_and_si256(a, _mm256_set1_epi32(0xff));
    const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(halves, halves));
  }
  static I AddInts(I a, I b) { return _mm256_add_epi32(a, b); }
  static I SubInts(I a, I b) { return _mm256_sub_epi32(a, b); }
  // Each by n bytes to the left.
  static I ShiftBytes(I a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(8 * n)); }
  // Byte n of each, as it is signed.
  static I SignedByte(I a, int n) { return _mm256_srai_epi32(ShiftBytes(a, 3 - n), 24); }
  static F FromInts(I a) { return _mm256_cvtepi32_ps(a); }
  // To the nearest.
  static I ToInts(F a) { return _mm256_cvtps_epi32(a); }

  static F AsFloat(I a) { return _mm256_castsi256_ps(a); }
  // The even (low) and the odd (high) bfloat16 of each unit, as float32.
  static F Even(I a) { return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)); }
  static F Odd(I a) {
    return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  static F LoadBf16(const uint16_t* p) {
    return Even(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F LoadBf16N(const uint16_t* p, int n) {
    alignas(16) uint16_t copy[8] = {};
    for (int i = 0; i < n; ++i) copy[i] = p[i];
    return LoadBf16(copy);
  }
  // Rounded to nearest even; a NaN stays one.
  static I RoundBf16(F a) {
    const I bits = _mm256_castps_si256(a);
    const I odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const I rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0),
                              _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
  }
  static void StoreBf16(uint16_t* p, F a) {
    const I x = RoundBf16(a);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
  }
  static void StoreBf16N(uint16_t* p, F a, int n) {
    alignas(16) uint16_t copy[8];
    StoreBf16(copy, a);
    for (int i = 0; i < n; ++i) p[i] = copy[i];
  }
  // Four rows of 32 bytes -> units of a byte of each: vector i holds columns 4 i to 4 i + 3 of each 16.
  static void Zip4(const uint32_t* row0, const uint32_t* row1, const uint32_t* row2, const uint32_t* row3, I (&to)[4]) {
    const I a = LoadUnits(row0), b = LoadUnits(row1), c = LoadUnits(row2), d = LoadUnits(row3);
    const I low = _mm256_unpacklo_epi8(a, b), low2 = _mm256_unpacklo_epi8(c, d);
    const I high = _mm256_unpackhi_epi8(a, b), high2 = _mm256_unpackhi_epi8(c, d);
    to[0] = _mm256_unpacklo_epi16(low, low2);
    to[1] = _mm256_unpackhi_epi16(low, low2);
    to[2] = _mm256_unpacklo_epi16(high, high2);
    to[3] = _mm256_unpackhi_epi16(high, high2);
  }
  // Two rows of 16 bfloat16 -> units of (row 0, row 1): `a` holds columns 0-3 and 8-11, `b` the others.
  static void ZipBf16(const uint32_t* row0, const uint32_t* row1, I* a, I* b) {
    const I x = LoadUnits(row0), y = LoadUnits(row1);
    *a = _mm256_unpacklo_epi16(x, y);
    *b = _mm256_unpackhi_epi16(x, y);
  }
  // The sums made with ZipBf16's units, back in the order of columns.
  static void Unzip(F a, F b, F* first, F* second) {
    *first = _mm256_permute2f128_ps(a, b, 0x20);
    *second = _mm256_permute2f128_ps(a, b, 0x31);
  }
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AVX2_VEC256_INL_H_
