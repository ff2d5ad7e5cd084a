// EL-attention over states: tokens are rows, queries are columns ("lanes"), so that one layout of the states serves
// both products.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_STATE_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_STATE_ATTENTION_INL_H_

#include "engine/backend/cpu/attention.inl.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/linear.inl.h"
#include "engine/backend/cpu/math.inl.h"
#include "engine/backend/cpu/product.inl.h"
#include "engine/backend/cpu/state.inl.h"

namespace elserve::cpu {
namespace {

struct StateScratch {
  uint32_t* q;        // [units, lanes]
  float* scores;      // [kAttentionTile, lanes]
  uint32_t* weights;  // [kAttentionTile / kPack, lanes]
  float* sums;        // [lanes, width], columns in RowColumns's order
  float* m;           // [lanes]
  float* l;
  float* scale;
};

// Scores of `tokens` rows of one page for all lanes.
template <class S, int NV>
void LaneScores(const uint32_t* rows, int64_t stride, int tokens, const uint32_t* q, int lanes, int64_t units,
                float* scores) {
  // As many sums as fit the registers.
  constexpr bool kWide = S::Vec::kLanes == 16;
  constexpr int kMost = kWide ? (NV == 1 ? 16 : 24 / NV) : 12 / NV;
  const LaneColumns<S> columns{q, lanes};
  const int parts = Parts(tokens, kMost);
  for (int part = 0; part < parts; ++part) {
    const int row = part * tokens / parts, n = (part + 1) * tokens / parts - row;
    WithRows<kMost>(n, [&]<int MR>() {
      StoreProduct<S, MR, NV>(units, rows + row * stride, stride, 1, columns, scores + row * lanes, lanes);
    });
  }
}

template <class S>
void PageLaneScores(const uint32_t* rows, int64_t stride, int tokens, const uint32_t* q, int lanes, int64_t units,
                    float* scores) {
  constexpr int L = S::Vec::kLanes;
  for (int lane = 0; lane < lanes;) {
    const int vectors = (lanes - lane) / L;
    if (vectors >= 3) {
      LaneScores<S, 3>(rows, stride, tokens, q + lane, lanes, units, scores + lane);
      lane += 3 * L;
    } else if (vectors == 2) {
      LaneScores<S, 2>(rows, stride, tokens, q + lane, lanes, units, scores + lane);
      lane += 2 * L;
    } else {
      LaneScores<S, 1>(rows, stride, tokens, q + lane, lanes, units, scores + lane);
      lane += L;
    }
  }
}

// Weights of a tile of scores, lane by lane; updates m, l and scale.
template <class S>
void LaneWeights(const StateScratch& s, int tokens, int lanes) {
  using V = typename S::Vec;
  for (int lane = 0; lane < lanes; lane += V::kLanes) {
    const float* scores = s.scores + lane;
    const typename V::F m = V::Load(s.m + lane);
    typename V::F top = m;
    for (int t = 0; t < tokens; ++t) top = V::Max(V::Load(scores + t * lanes), top);
    const typename V::F shift = V::Sub(V::Zero(), V::Mul(top, V::Set(kLog2e)));
    const typename V::F scale = Exp2<V>(V::Mul(V::Sub(m, top), V::Set(kLog2e)));
    typename V::F sum = V::Zero();
    const auto weight = [&](int t) {
      return Exp2<V, kExpTerms<S>>(V::Fma(V::Load(scores + t * lanes), V::Set(kLog2e), shift));
    };
    if constexpr (S::kPack == 1) {
      for (int t = 0; t < tokens; ++t) {
        const typename V::F w = weight(t);
        sum = V::Add(sum, w);
        V::Store(reinterpret_cast<float*>(s.weights) + t * lanes + lane, w);
      }
    } else {
      for (int t = 0; t < tokens; t += 2) {
        const typename V::F even = weight(t);
        const typename V::F odd = t + 1 < tokens ? weight(t + 1) : V::Zero();
        sum = V::Add(sum, V::Add(even, odd));
        S::StorePairs(s.weights + t / 2 * lanes + lane, even, odd);
      }
    }
    V::Store(s.m + lane, top);
    V::Store(s.l + lane, V::Fma(V::Load(s.l + lane), scale, sum));
    V::Store(s.scale + lane, scale);
  }
}

// Adds a tile's weighted states to the sums.
template <class S>
void AddTile(const StateScratch& s, const uint32_t* const* pages, int64_t stride, int tokens, int padded, int lanes,
             int64_t width) {
  using V = typename S::Vec;
  constexpr int kMost = kRegisterRows<V>, kPanel = 2 * V::kLanes;
  const int parts = Parts(lanes, kMost);
  const auto units = [tokens](int page) {
    const int left = tokens - page * kPageTokens;
    return ((left < kPageTokens ? left : kPageTokens) + S::kPack - 1) / S::kPack;
  };
  for (int64_t column = 0; column < width; column += kPanel) {
    const auto columns = [&](int page) { return RowColumns<S>{pages[page] + column / S::kPack, stride}; };
    for (int part = 0; part < parts; ++part) {
      const int lane = part * lanes / parts, n = (part + 1) * lanes / parts - lane;
      WithRows<kMost>(n, [&]<int MR>() {
        AddProduct<S, MR, 2>(Parts(tokens, kPageTokens), units, s.weights + lane, kPageTokens / S::kPack * padded, 1,
                             padded, columns, s.sums + lane * width + column, width, s.scale + lane);
      });
    }
  }
}

// sums / l -> states, in the order of columns.
template <class S>
void FinishStates(const StateAttention& p, const StateScratch& s, int64_t width) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  for (int lane = 0; lane < p.lanes; ++lane) {
    const typename V::F by = V::Set(1.0f / s.l[lane]);
    float* c = s.sums + lane * width;
    for (int64_t j = 0; j < width; j += 2 * L) {
      typename V::F a = V::Mul(V::Load(c + j), by), b = V::Mul(V::Load(c + j + L), by);
      S::Unzip(a, b, &a, &b);
      V::Store(c + j, a);
      V::Store(c + j + L, b);
    }
    ToState<S>(c, p.d, p.out[lane]);
  }
}

template <class S>
void AttendStates(const StateAttention& p) {
  using V = typename S::Vec;
  constexpr int kPanel = 2 * V::kLanes;
  const int lanes = static_cast<int>(RoundUp(p.lanes, V::kLanes));
  const int64_t width = RoundUp(p.d, kPanel);
  StateScratch s;
  s.sums = p.scratch;
  s.scores = s.sums + kMaxLanes * width;
  s.weights = reinterpret_cast<uint32_t*>(s.scores + kMaxLanes * kAttentionTile);
  s.m = s.scores + 2 * kMaxLanes * kAttentionTile;
  s.l = s.m + kMaxLanes;
  s.scale = s.l + kMaxLanes;
  s.q = reinterpret_cast<uint32_t*>(s.scale + kMaxLanes);
  for (int lane = 0; lane < lanes; ++lane) {
    s.m[lane] = kNoScore;
    s.l[lane] = 0;
    for (int64_t u = 0; u < p.units; ++u) s.q[u * lanes + lane] = lane < p.lanes ? p.q[lane][u] : 0;
  }
  for (int64_t i = 0; i < p.lanes * width; ++i) s.sums[i] = 0;
  for (int begin = 0; begin < p.tokens; begin += kAttentionTile) {
    const int tokens = p.tokens - begin < kAttentionTile ? p.tokens - begin : kAttentionTile;
    const auto page_tokens = [&](int page) {
      const int left = tokens - page * kPageTokens;
      return left < kPageTokens ? left : kPageTokens;
    };
    const int first = begin / kPageTokens, pages = (tokens + kPageTokens - 1) / kPageTokens;
    for (int page = 0; page < pages; ++page) {
      PageLaneScores<S>(p.pages[first + page], p.page_stride, page_tokens(page), s.q, lanes, p.units,
                        s.scores + page * kPageTokens * lanes);
    }
    LaneWeights<S>(s, tokens, lanes);
    AddTile<S>(s, p.pages + first, p.page_stride, tokens, lanes, p.lanes, width);
  }
  FinishStates<S>(p, s, width);
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_STATE_ATTENTION_INL_H_
