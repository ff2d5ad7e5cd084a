// Attention over cells of keys and values: one query a head, so vectors run along the head.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_CELL_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_CELL_ATTENTION_INL_H_

#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// The dot of two runs of units.
template <class S>
inline float DotUnits(const uint32_t* a, const uint32_t* b, int units) {
  using V = typename S::Vec;
  typename V::F sum = V::Zero();
  int u = 0;
  for (; u + V::kLanes <= units; u += V::kLanes) sum = S::Dot(sum, V::LoadUnits(a + u), V::LoadUnits(b + u));
  if (u < units) sum = S::Dot(sum, V::LoadUnitsN(a + u, units - u), V::LoadUnitsN(b + u, units - u));
  return V::ReduceAdd(sum);
}

// Scores -> weights as units of kPack tokens, zeros behind the last; returns the sum of the weights.
template <class S>
float CellWeights(float* scores, int tokens, float top) {
  using V = typename S::Vec;
  const typename V::F shift = V::Set(-top * kLog2e);
  typename V::F sum = V::Zero();
  for (int t = 0; t < tokens; t += V::kLanes) {
    const int n = tokens - t < V::kLanes ? tokens - t : V::kLanes;
    typename V::F w = Exp2<V, kExpTerms<S>>(V::Fma(V::LoadN(scores + t, n), V::Set(kLog2e), shift));
    if (n < V::kLanes) {
      V::Store(scores + t, w);
      w = V::LoadN(scores + t, n);
    }
    sum = V::Add(sum, w);
    // The states of a weight are no wider than its score: they take the place of scores that were read.
    S::Store(reinterpret_cast<typename S::State*>(scores) + t, w);
  }
  return V::ReduceAdd(sum);
}

template <class S>
void AttendCells(const CellAttention& p) {
  using V = typename S::Vec;
  using State = typename S::State;
  constexpr int kPanel = 2 * V::kLanes;
  const int64_t value_offset = static_cast<int64_t>(p.heads) * p.head_dim;
  const int units = p.head_dim / S::kPack;
  float* scores = p.scratch;  // [tokens], up to whole vectors
  const auto cell = [&p](int t) { return reinterpret_cast<const State*>(p.cells + p.ancestry[t] * p.cell_stride); };
  for (int head = 0; head < p.heads; ++head) {
    const int64_t offset = static_cast<int64_t>(head) * p.head_dim;
    const auto* q = reinterpret_cast<const uint32_t*>(reinterpret_cast<const State*>(p.q) + offset);
    float top = kNoScore;
    for (int t = 0; t < p.tokens; ++t) {
      scores[t] = DotUnits<S>(q, reinterpret_cast<const uint32_t*>(cell(t) + offset), units);
      if (p.bias != nullptr) scores[t] += p.bias[head * p.bias_head + t];
      if (scores[t] > top) top = scores[t];
    }
    const typename V::F by = V::Set(1.0f / CellWeights<S>(scores, p.tokens, top));
    const auto* weights = reinterpret_cast<const uint32_t*>(scores);
    State* out = reinterpret_cast<State*>(p.out) + offset;
    for (int column = 0; column < p.head_dim; column += kPanel) {
      const int64_t at = value_offset + offset + column;
      typename V::F a = V::Zero(), b = V::Zero();
      for (int t = 0; t < p.tokens; t += S::kPack) {
        // An odd last token stands in for its missing neighbour, whose weight is 0.
        const auto* even = reinterpret_cast<const uint32_t*>(cell(t) + at);
        const auto* odd =
            reinterpret_cast<const uint32_t*>(cell(t + S::kPack - 1 < p.tokens ? t + S::kPack - 1 : t) + at);
        typename V::I x, y;
        S::Zip(even, odd, &x, &y);
        const typename V::I w = V::Broadcast(weights + t / S::kPack);
        a = S::Dot(a, w, x);
        b = S::Dot(b, w, y);
      }
      S::Unzip(a, b, &a, &b);
      alignas(64) float sums[kPanel];
      V::Store(sums, V::Mul(a, by));
      V::Store(sums + V::kLanes, V::Mul(b, by));
      const int n = p.head_dim - column < kPanel ? p.head_dim - column : kPanel;
      ToState<S>(sums, n, reinterpret_cast<std::byte*>(out + column));
    }
  }
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_CELL_ATTENTION_INL_H_
