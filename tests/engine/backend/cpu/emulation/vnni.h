// The dot of bytes in software: AVX-VNNI for the level avx2, and what avx512_vnni.h makes AVX512-VNNI of.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_VNNI_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_VNNI_H_

#include <immintrin.h>

namespace elserve::cpu {

// VPDPBUSD: sum + the four products of each lane, unsigned bytes of a by signed ones of b. Nothing saturates.
inline __m256i DotBytes(__m256i sum, __m256i a, __m256i b) {
  const __m256i a_even = _mm256_and_si256(a, _mm256_set1_epi16(0xff)), a_odd = _mm256_srli_epi16(a, 8);
  const __m256i b_even = _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8), b_odd = _mm256_srai_epi16(b, 8);
  return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(a_even, b_even), _mm256_madd_epi16(a_odd, b_odd)));
}
inline __m256i _mm256_dpbusd_avx_epi32(__m256i sum, __m256i a, __m256i b) { return DotBytes(sum, a, b); }

}  // namespace elserve::cpu

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_VNNI_H_
