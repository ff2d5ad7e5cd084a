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

// The greatest of many vectors, lane by lane, in four chains: one after the other they would wait for each other.
class Greatest {
 public:
  // `n` vectors, `stride` floats from one to the next.
  __attribute__((always_inline)) void Take(const float* from, int64_t stride, int n) {
    int i = 0;
    for (; i + 4 <= n; i += 4) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) top_[j] = Vec512::Max(Vec512::Load(from + (i + j) * stride), top_[j]);
    }
    for (; i < n; ++i) top_[0] = Vec512::Max(Vec512::Load(from + i * stride), top_[0]);
  }
  // -infinity where there was none.
  __attribute__((always_inline)) __m512 Of() const {
    return Vec512::Max(Vec512::Max(top_[0], top_[1]), Vec512::Max(top_[2], top_[3]));
  }

 private:
  static __m512 None() { return Vec512::Set(-__builtin_inff()); }
  __m512 top_[4] = {None(), None(), None(), None()};
};

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
