// bfloat16 by the processor's own dot and rounding (AVX512-BF16).
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AVX512_BF16_DOT_BF16_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AVX512_BF16_DOT_BF16_INL_H_

#include "engine/backend/cpu/avx512/vec512.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"

namespace elserve::cpu {
namespace {

struct DotBf16State : Bf16State<Vec512> {
  using AsRows = DotBf16State;
  using Number = DotBf16State;
  using Wide = DotBf16State;
  static constexpr bool kWidens = false;
  static __m512 Dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  static __m256i Round(__m512 x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }
  static void Store(State* p, __m512 x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), Round(x)); }
  static void StoreN(State* p, __m512 x, int n) { _mm256_mask_storeu_epi16(p, Vec512::Mask(n), Round(x)); }
  static void StorePairs(uint32_t* p, __m512 even, __m512 odd) {
    const __m512i low = _mm512_cvtepu16_epi32(Round(even)), high = _mm512_cvtepu16_epi32(Round(odd));
    _mm512_storeu_si512(p, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
  static void Zip(const uint32_t* even, const uint32_t* odd, __m512i* a, __m512i* b) {
    Vec512::ZipBf16(even, odd, a, b);
  }
  static void Unzip(__m512 a, __m512 b, __m512* first, __m512* second) { Vec512::Unzip(a, b, first, second); }
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AVX512_BF16_DOT_BF16_INL_H_
