// Row-wise operations: norms, embeddings.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ROWS_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ROWS_INL_H_

#include <cmath>

#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

template <class V>
inline typename V::F LoadUpTo(const float* p, int64_t n) {
  return n >= V::kLanes ? V::Load(p) : V::LoadN(p, static_cast<int>(n));
}

template <class S>
void Norm(const NormRow& p) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  const float* x = p.x;
  const int64_t d = p.d;
  float mean = 0;
  if (p.kind == NormKind::kLayerNorm) {
    typename V::F sum = V::Zero();
    for (int64_t i = 0; i < d; i += L) sum = V::Add(sum, LoadUpTo<V>(x + i, d - i));
    mean = V::ReduceAdd(sum) / static_cast<float>(d);
  }
  typename V::F squares = V::Zero();
  int64_t i = 0;
  for (; i + L <= d; i += L) {
    const typename V::F y = V::Sub(V::Load(x + i), V::Set(mean));
    squares = V::Fma(y, y, squares);
  }
  float sum = V::ReduceAdd(squares);
  for (; i < d; ++i) sum += (x[i] - mean) * (x[i] - mean);
  const float inverse = 1.0f / std::sqrt(sum / static_cast<float>(d) + p.epsilon);
  auto* to = reinterpret_cast<typename S::State*>(p.state);
  for (i = 0; i < d; i += L) {
    const int n = static_cast<int>(d - i < L ? d - i : L);
    typename V::F y = V::Mul(V::Sub(LoadUpTo<V>(x + i, n), V::Set(mean)), V::Set(inverse));
    y = V::Mul(y, LoadUpTo<V>(p.gamma + i, n));
    if (p.beta) y = V::Add(y, LoadUpTo<V>(p.beta + i, n));
    if (n == L) {
      if (p.residual) V::Store(p.residual + i, y);
      S::Store(to + i, y);
    } else {
      if (p.residual) V::StoreN(p.residual + i, y, n);
      S::StoreN(to + i, y, n);
    }
  }
}

template <class S>
void Embed(const EmbedRow& p) {
  using V = typename S::Vec;
  const auto* token = reinterpret_cast<const typename S::State*>(p.token);
  const auto* position = reinterpret_cast<const typename S::State*>(p.position);
  for (int64_t i = 0; i < p.d; i += V::kLanes) {
    const int n = static_cast<int>(p.d - i < V::kLanes ? p.d - i : V::kLanes);
    typename V::F x = V::Mul(S::LoadN(token + i, n), V::Set(p.scale));
    if (position) x = V::Add(x, S::LoadN(position + i, n));
    V::StoreN(p.out + i, x, n);
  }
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ROWS_INL_H_
