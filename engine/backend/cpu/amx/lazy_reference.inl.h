// The number that a query's weights are relative to, in powers of two: weight = 2^(score * log2(e) - reference). It is
// not the maximum so far, but a maximum of before, and follows only when that has grown much: so sums are seldom
// scaled.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_LAZY_REFERENCE_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_LAZY_REFERENCE_INL_H_

#include <immintrin.h>

#include "engine/backend/cpu/avx512/vec512.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// Weights stay below 2^8.
inline constexpr float kReferenceSlack = 8;

struct LazyReference {
  __m512 reference;
  __m512 scale;     // of the sums so far; 1 where the reference stays
  __mmask16 moved;  // whose do not

  // top: the greatest of the new scores.
  __attribute__((always_inline)) static LazyReference Follow(__m512 old, __m512 top) {
    top = Vec512::Mul(top, Vec512::Set(kLog2e));
    const auto moved = static_cast<__mmask16>(Vec512::Greater(top, Vec512::Add(old, Vec512::Set(kReferenceSlack))));
    // The sums of weights and of weighted values get the same scale, so that its error cancels.
    return {_mm512_mask_mov_ps(old, moved, top),
            _mm512_mask_mov_ps(Vec512::Set(1.0f), moved, Vec512::Exp2Cubic(Vec512::Sub(old, top))), moved};
  }
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_LAZY_REFERENCE_INL_H_
