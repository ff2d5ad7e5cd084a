// AVX512-VNNI in software: avx512.h, and the dot of bytes.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_VNNI_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_VNNI_H_

#include "tests/engine/backend/cpu/emulation/avx512.h"
#include "tests/engine/backend/cpu/emulation/vnni.h"

namespace elserve::cpu {

inline __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
  return {DotBytes(sum.low, a.low, b.low), DotBytes(sum.high, a.high, b.high)};
}

}  // namespace elserve::cpu

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_AVX512_VNNI_H_
