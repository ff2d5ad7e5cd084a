// AVX-512 F, BW, DQ and VL in software, on AVX2 and FMA: as much as the cpu backend's kernels use. Included before the
// unchanged text of a kernel file (README.md). What stands here in the kernels' namespace hides the compiler's global
// names; an intrinsic that does not stand here is refused by the compiler, for its types or for the target.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || !defined(__AVX2__) || !defined(__FMA__)
#error "for translation units that are compiled for AVX2 and FMA and nothing above"
#endif

// An operand of these has to be a constant.
#undef _mm512_cmp_ps_mask
#undef _mm512_roundscale_ps
#undef _mm512_reduce_ps
#undef _mm512_shuffle_i32x4
#undef _mm512_i32gather_ps
#define _mm512_reduce_ps(a, control) ReduceLanes<control>(a)
#define _mm512_shuffle_i32x4(a, b, control) ShuffleQuarters<control>(a, b)
#define _mm512_i32gather_ps(index, base, scale) GatherLanes<scale>(index, base)
#define _mm512_cmp_ps_mask(a, b, predicate) CompareLanes<predicate>(a, b)
#define _mm512_roundscale_ps(a, control) RoundLanes<control>(a)
// Others that some compilers make macros.
#undef _mm512_setr_epi32
#undef _mm512_slli_epi32
#undef _mm512_srai_epi32
#undef _mm512_srli_epi32

namespace elserve::cpu {

struct __m512 {
  __m256 low, high;
};
struct __m512i {
  __m256i low, high;
};

inline __m512 _mm512_castsi512_ps(__m512i a) { return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)}; }
inline __m512i _mm512_castps_si512(__m512 a) { return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)}; }

inline __m512 _mm512_setzero_ps() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline __m512 _mm512_set1_ps(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline __m512i _mm512_set1_epi32(int x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
template <class... Int>
__m512i _mm512_setr_epi32(Int... lanes) {
  static_assert(sizeof...(lanes) == 16);
  const int values[16] = {lanes...};
  __m512i r;
  std::memcpy(&r, values, sizeof(r));
  return r;
}

// Memory. Under a mask the lanes are taken one by one: what the mask leaves out is not touched, and the address
// sanitizer sees what it does not.
inline __m512 _mm512_loadu_ps(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void _mm512_storeu_ps(float* p, __m512 a) {
  _mm256_storeu_ps(p, a.low);
  _mm256_storeu_ps(p + 8, a.high);
}
inline __m512i _mm512_loadu_si512(const void* p) {
  const auto* halves = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(halves), _mm256_loadu_si256(halves + 1)};
}
inline void _mm512_storeu_si512(void* p, __m512i a) {
  auto* halves = static_cast<__m256i*>(p);
  _mm256_storeu_si256(halves, a.low);
  _mm256_storeu_si256(halves + 1, a.high);
}
// To: a vector of Lane.
template <class To, class Lane>
To LoadMasked(uint32_t mask, const void* p) {
  Lane lanes[sizeof(To) / sizeof(Lane)] = {};
  for (size_t i = 0; i < sizeof(To) / sizeof(Lane); ++i) {
    if (mask >> i & 1) std::memcpy(&lanes[i], static_cast<const Lane*>(p) + i, sizeof(Lane));
  }
  To r;
  std::memcpy(&r, lanes, sizeof(r));
  return r;
}
template <class Lane, class From>
void StoreMasked(void* p, uint32_t mask, const From& a) {
  Lane lanes[sizeof(From) / sizeof(Lane)];
  std::memcpy(lanes, &a, sizeof(a));
  for (size_t i = 0; i < sizeof(From) / sizeof(Lane); ++i) {
    if (mask >> i & 1) std::memcpy(static_cast<Lane*>(p) + i, &lanes[i], sizeof(Lane));
  }
}
inline __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* p) { return LoadMasked<__m512, float>(mask, p); }
inline __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 a) { return LoadMasked<__m512, float>(mask, &a); }
inline __m512i _mm512_maskz_loadu_epi32(__mmask16 mask, const void* p) { return LoadMasked<__m512i, int>(mask, p); }
inline __m256i _mm256_maskz_loadu_epi16(__mmask16 mask, const void* p) { return LoadMasked<__m256i, int16_t>(mask, p); }
inline void _mm512_mask_storeu_ps(void* p, __mmask16 mask, __m512 a) { StoreMasked<float>(p, mask, a); }
inline void _mm512_mask_storeu_epi32(void* p, __mmask16 mask, __m512i a) { StoreMasked<int>(p, mask, a); }
inline void _mm256_mask_storeu_epi16(void* p, __mmask16 mask, __m256i a) { StoreMasked<int16_t>(p, mask, a); }

// Arithmetic.
inline __m512 _mm512_add_ps(__m512 a, __m512 b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline __m512 _mm512_sub_ps(__m512 a, __m512 b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline __m512 _mm512_mul_ps(__m512 a, __m512 b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline __m512 _mm512_div_ps(__m512 a, __m512 b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
inline __m512 _mm512_max_ps(__m512 a, __m512 b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline __m512 _mm512_min_ps(__m512 a, __m512 b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline __m512 _mm512_abs_ps(__m512 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
template <int kControl>
__m512 RoundLanes(__m512 a) {
  static_assert(kControl >> 4 == 0, "rounding to fractions is not here");
  return {_mm256_round_ps(a.low, kControl), _mm256_round_ps(a.high, kControl)};
}

// a - a rounded as the control says, which is exact; 0 for infinities.
template <int kControl>
__m256 ReduceHalf(__m256 a) {
  const __m256 infinity = _mm256_set1_ps(__builtin_inff());
  const __m256 infinite = _mm256_cmp_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a), infinity, _CMP_EQ_OQ);
  return _mm256_andnot_ps(infinite, _mm256_sub_ps(a, _mm256_round_ps(a, kControl)));
}
template <int kControl>
__m512 ReduceLanes(__m512 a) {
  static_assert(kControl >> 4 == 0, "fractions of fractions are not here");
  return {ReduceHalf<kControl>(a.low), ReduceHalf<kControl>(a.high)};
}

// p * 2^floor(n): in float64 the product is exact, so that it is rounded once, to a denormal too.
inline __m128 ScaleQuarter(__m128 p, __m128 n) {
  const __m256d exact = _mm256_cvtps_pd(n);
  // Powers beyond these bounds overflow or vanish whatever p is.
  const __m256d bounded =
      _mm256_min_pd(_mm256_max_pd(_mm256_floor_pd(exact), _mm256_set1_pd(-320)), _mm256_set1_pd(320));
  const __m256i exponent = _mm256_cvtepi32_epi64(_mm_add_epi32(_mm256_cvtpd_epi32(bounded), _mm_set1_epi32(1023)));
  __m256d power = _mm256_castsi256_pd(_mm256_slli_epi64(exponent, 52));
  // +infinity and NaN are the factor themselves, -infinity is 0: infinity times 0 is a NaN.
  const __m256d infinity = _mm256_set1_pd(__builtin_inf());
  const __m256d finite = _mm256_cmp_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), exact), infinity, _CMP_LT_OQ);
  power = _mm256_blendv_pd(_mm256_max_pd(_mm256_setzero_pd(), exact), power, finite);
  return _mm256_cvtpd_ps(_mm256_mul_pd(_mm256_cvtps_pd(p), power));
}
inline __m256 ScaleHalf(__m256 p, __m256 n) {
  return _mm256_set_m128(ScaleQuarter(_mm256_extractf128_ps(p, 1), _mm256_extractf128_ps(n, 1)),
                         ScaleQuarter(_mm256_castps256_ps128(p), _mm256_castps256_ps128(n)));
}
inline __m512 _mm512_scalef_ps(__m512 p, __m512 n) { return {ScaleHalf(p.low, n.low), ScaleHalf(p.high, n.high)}; }

// In the order of GCC's sequence: halves, quarters, pairs. No instruction has an order of its own here.
inline float _mm512_reduce_add_ps(__m512 a) {
  const __m256 half = _mm256_add_ps(a.high, a.low);
  const __m128 quarter = _mm_add_ps(_mm256_extractf128_ps(half, 1), _mm256_castps256_ps128(half));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
inline float _mm512_reduce_max_ps(__m512 a) {
  const __m256 half = _mm256_max_ps(a.high, a.low);
  const __m128 quarter = _mm_max_ps(_mm256_extractf128_ps(half, 1), _mm256_castps256_ps128(half));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}

// Masks.
template <int kPredicate>
__mmask16 CompareLanes(__m512 a, __m512 b) {
  return static_cast<__mmask16>(_mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, kPredicate)) |
                                _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, kPredicate)) << 8);
}
// All ones in the lanes whose bits are set.
inline __m256i LanesOf(int mask) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask), bits), bits);
}
inline __m512 _mm512_mask_mov_ps(__m512 otherwise, __mmask16 mask, __m512 a) {
  return {_mm256_blendv_ps(otherwise.low, a.low, _mm256_castsi256_ps(LanesOf(mask))),
          _mm256_blendv_ps(otherwise.high, a.high, _mm256_castsi256_ps(LanesOf(mask >> 8)))};
}
inline __m512i _mm512_mask_mov_epi32(__m512i otherwise, __mmask16 mask, __m512i a) {
  return {_mm256_blendv_epi8(otherwise.low, a.low, LanesOf(mask)),
          _mm256_blendv_epi8(otherwise.high, a.high, LanesOf(mask >> 8))};
}

// Bits and integers.
inline __m512i _mm512_and_si512(__m512i a, __m512i b) {
  return {_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)};
}
inline __m512i _mm512_or_si512(__m512i a, __m512i b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
inline __m512i _mm512_setzero_si512() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline __m512i _mm512_sub_epi32(__m512i a, __m512i b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
inline __m512i _mm512_sll_epi32(__m512i a, __m128i count) {
  return {_mm256_sll_epi32(a.low, count), _mm256_sll_epi32(a.high, count)};
}
inline __m512i _mm512_srai_epi32(__m512i a, unsigned count) {
  return {_mm256_srai_epi32(a.low, static_cast<int>(count)), _mm256_srai_epi32(a.high, static_cast<int>(count))};
}
inline __m512 _mm512_cvtepi32_ps(__m512i a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
inline __m512i _mm512_cvtps_epi32(__m512 a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
// The low byte of each lane.
inline __m128i _mm512_cvtepi32_epi8(__m512i a) {
  int32_t lanes[16];
  _mm512_storeu_si512(lanes, a);
  alignas(16) int8_t bytes[16];
  for (int i = 0; i < 16; ++i) bytes[i] = static_cast<int8_t>(lanes[i]);
  return _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
}
inline __m512i _mm512_add_epi32(__m512i a, __m512i b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline __m512i _mm512_slli_epi32(__m512i a, int by) {
  return {_mm256_slli_epi32(a.low, by), _mm256_slli_epi32(a.high, by)};
}
inline __m512i _mm512_srli_epi32(__m512i a, int by) {
  return {_mm256_srli_epi32(a.low, by), _mm256_srli_epi32(a.high, by)};
}
// Widths and places.
inline __m512i _mm512_cvtepu16_epi32(__m256i a) {
  return {_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1))};
}
// The low 16 bits of each lane.
inline __m256i _mm512_cvtepi32_epi16(__m512i a) {
  const __m256i low = _mm256_set1_epi32(0xffff);
  const __m256i quarters = _mm256_packus_epi32(_mm256_and_si256(a.low, low), _mm256_and_si256(a.high, low));
  return _mm256_permute4x64_epi64(quarters, 0xD8);
}
inline __m512i _mm512_unpacklo_epi8(__m512i a, __m512i b) {
  return {_mm256_unpacklo_epi8(a.low, b.low), _mm256_unpacklo_epi8(a.high, b.high)};
}
inline __m512i _mm512_unpackhi_epi8(__m512i a, __m512i b) {
  return {_mm256_unpackhi_epi8(a.low, b.low), _mm256_unpackhi_epi8(a.high, b.high)};
}
inline __m512i _mm512_unpacklo_epi16(__m512i a, __m512i b) {
  return {_mm256_unpacklo_epi16(a.low, b.low), _mm256_unpacklo_epi16(a.high, b.high)};
}
inline __m512i _mm512_unpackhi_epi16(__m512i a, __m512i b) {
  return {_mm256_unpackhi_epi16(a.low, b.low), _mm256_unpackhi_epi16(a.high, b.high)};
}
inline __m512i _mm512_unpacklo_epi32(__m512i a, __m512i b) {
  return {_mm256_unpacklo_epi32(a.low, b.low), _mm256_unpacklo_epi32(a.high, b.high)};
}
inline __m512i _mm512_unpackhi_epi32(__m512i a, __m512i b) {
  return {_mm256_unpackhi_epi32(a.low, b.low), _mm256_unpackhi_epi32(a.high, b.high)};
}
inline __m512i _mm512_unpacklo_epi64(__m512i a, __m512i b) {
  return {_mm256_unpacklo_epi64(a.low, b.low), _mm256_unpacklo_epi64(a.high, b.high)};
}
inline __m512i _mm512_unpackhi_epi64(__m512i a, __m512i b) {
  return {_mm256_unpackhi_epi64(a.low, b.low), _mm256_unpackhi_epi64(a.high, b.high)};
}
// Two quarters of a, then two of b.
template <int kControl>
__m512i ShuffleQuarters(__m512i a, __m512i b) {
  const __m512i both[2] = {a, b};
  __m128i quarters[8], picked[4];
  std::memcpy(quarters, both, sizeof(quarters));
  for (int i = 0; i < 4; ++i) picked[i] = quarters[i / 2 * 4 + (kControl >> (2 * i) & 3)];
  __m512i r;
  std::memcpy(&r, picked, sizeof(r));
  return r;
}
// Lanes of 16 bits: of one vector, or of two.
inline __m512i _mm512_permutex2var_epi16(__m512i a, __m512i index, __m512i b) {
  uint16_t values[64], at[32], picked[32];
  std::memcpy(values, &a, sizeof(a));
  std::memcpy(values + 32, &b, sizeof(b));
  std::memcpy(at, &index, sizeof(at));
  for (int i = 0; i < 32; ++i) picked[i] = values[at[i] & 63];
  return _mm512_loadu_si512(picked);
}
inline __m512i _mm512_permutexvar_epi16(__m512i index, __m512i a) { return _mm512_permutex2var_epi16(a, index, a); }
template <int kScale>
__m512 GatherLanes(__m512i index, const void* base) {
  int32_t at[16];
  float values[16];
  std::memcpy(at, &index, sizeof(at));
  for (int i = 0; i < 16; ++i) {
    std::memcpy(&values[i], static_cast<const char*>(base) + static_cast<int64_t>(at[i]) * kScale, sizeof(float));
  }
  return _mm512_loadu_ps(values);
}
inline __m512 _mm512_permutex2var_ps(__m512 a, __m512i index, __m512 b) {
  const __m512 table[2] = {a, b};
  float values[32], picked[16];
  int32_t at[16];
  std::memcpy(values, table, sizeof(values));
  std::memcpy(at, &index, sizeof(at));
  for (int i = 0; i < 16; ++i) picked[i] = values[at[i] & 31];
  return _mm512_loadu_ps(picked);
}

}  // namespace elserve::cpu

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_H_
