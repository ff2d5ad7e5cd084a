// The dot of bytes of AVX-VNNI.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AVX2_VNNI256_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AVX2_VNNI256_INL_H_

#include "engine/backend/cpu/avx2/vec256.inl.h"

namespace elserve::cpu {
namespace {

struct VnniVec256 : Vec256 {
  // sum + unsigned bytes of a by signed ones of b, four a lane.
  static I DotInt8(I sum, I a, I b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AVX2_VNNI256_INL_H_
