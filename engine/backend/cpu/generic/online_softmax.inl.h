// Attention as matrix work with an online softmax: for each strip of tokens, scores by a product, their weights,
// and the weighted sum by another product. A query keeps the maximum m, the sum l of its weights and the sum c of
// weighted states; a strip with a new maximum scales l and c by exp(m - new m).
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ONLINE_SOFTMAX_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ONLINE_SOFTMAX_INL_H_

#include <cstddef>
#include <cstdint>

#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// Terms of the weights' exponential: bfloat16 weights need no more than 4.
template <class S>
inline constexpr int kExpTerms = S::kPack == 2 ? 4 : 6;

// The maximum before the first score: below all of them, and finite, since infinity minus infinity is no number.
inline constexpr float kNoScore = -1e30f;

// Weights of one row's scores [tokens] -> states, zeros up to kPageTokens' multiple; returns what scales its old sums.
// The weights may take the scores' place.
template <class S>
float RowWeights(const float* scores, int tokens, float* m, float* l, typename S::State* weights) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  const int whole = tokens / L * L, tail = tokens - whole;
  typename V::F top = V::Set(*m);
  for (int t = 0; t < whole; t += L) top = V::Max(V::Load(scores + t), top);
  float next = V::ReduceMax(top);
  for (int t = whole; t < tokens; ++t) next = scores[t] > next ? scores[t] : next;
  const typename V::F shift = V::Set(next * kLog2e);
  typename V::F sum = V::Zero();
  int t = 0;
  for (; t < whole; t += L) {
    const typename V::F w =
        Exp2<V, kExpTerms<S>>(V::Fma(V::Load(scores + t), V::Set(kLog2e), V::Sub(V::Zero(), shift)));
    sum = V::Add(sum, w);
    S::Store(weights + t, w);
  }
  if (tail) {
    alignas(64) float last[L];
    V::Store(last, Exp2<V, kExpTerms<S>>(V::Fma(V::LoadN(scores + t, tail), V::Set(kLog2e), V::Sub(V::Zero(), shift))));
    for (int i = tail; i < L; ++i) last[i] = 0;
    const typename V::F w = V::Load(last);
    sum = V::Add(sum, w);
    S::Store(weights + t, w);
    t += L;
  }
  for (const int end = static_cast<int>(RoundUp(tokens, kPageTokens)); t < end; t += L)
    S::Store(weights + t, V::Zero());
  alignas(64) float old[L];
  V::Store(old, Exp2<V>(V::Set((*m - next) * kLog2e)));
  *l = *l * old[0] + V::ReduceAdd(sum);
  *m = next;
  return old[0];
}

// The weighted sums [width], whole vectors, by the sum of their weights -> n states. The sums do not stay.
template <class S>
void StoreMeans(float* sums, int64_t width, float total, int64_t n, std::byte* out) {
  using V = typename S::Vec;
  const typename V::F by = V::Set(1.0f / total);
  for (int64_t i = 0; i < width; i += V::kLanes) V::Store(sums + i, V::Mul(V::Load(sums + i), by));
  ToState<S>(sums, n, out);
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ONLINE_SOFTMAX_INL_H_
