// The dot of bytes of AVX512-VNNI.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AVX512_VNNI512_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AVX512_VNNI512_INL_H_

#include "engine/backend/cpu/avx512/vec512.inl.h"

namespace elserve::cpu {
namespace {

struct VnniVec512 : Vec512 {
  // sum + unsigned bytes of a by signed ones of b, four a lane.
  static I DotInt8(I sum, I a, I b) { return _mm512_dpbusd_epi32(sum, a, b); }
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AVX512_VNNI512_INL_H_
