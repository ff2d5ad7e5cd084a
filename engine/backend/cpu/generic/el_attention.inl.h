// EL-attention over states: tokens are rows, queries are columns, so that one layout of the states serves
// both products.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_EL_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_EL_ATTENTION_INL_H_

#include <cstddef>
#include <cstring>

#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/generic/product.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// Queries of one task at most.
inline constexpr int kElQueries = 48;

template <class S>
int64_t KeptStateBytes(int64_t d) {
  return RoundUp(d, 32) * static_cast<int64_t>(sizeof(typename S::State));
}
template <class S>
int64_t StatePageBytes(int64_t d) {
  return kPageTokens * KeptStateBytes<S>(d);
}

template <class S>
void KeepState(const std::byte* states, int64_t d, std::byte* kept) {
  std::memcpy(kept, states, static_cast<size_t>(KeptStateBytes<S>(d)));
}
template <class S>
void RestoreState(const std::byte* kept, int64_t d, std::byte* states) {
  std::memcpy(states, kept, static_cast<size_t>(d) * sizeof(typename S::State));
}

// A page: its rows one behind the other.
template <class S>
void StoreStates(const StatePage& p) {
  const int64_t stride = KeptStateBytes<S>(p.d);
  for (int t = 0; t < p.tokens; ++t) std::memcpy(p.page + t * stride, p.rows[t], static_cast<size_t>(stride));
  // Products may read behind the last token, in pairs, and a weight of 0 does not silence a NaN.
  std::memset(p.page + p.tokens * stride, 0, static_cast<size_t>((p.reach - p.tokens) * stride));
}

// Queries, scores, weights, sums, what AttendEl keeps of each query, and a strip that is widened.
template <class S>
int64_t ElScratchFloats(int64_t d) {
  const int64_t width = RoundUp(d, 32);
  return kElQueries * (width * 2 + 2 * kStripTokens + 8) + (S::kWidens ? kStripTokens * width : 0);
}

struct ElScratch {
  uint32_t* q;        // [units, queries]
  float* scores;      // [kStripTokens, queries]
  uint32_t* weights;  // [kStripTokens / kPack, queries]
  float* sums;        // [queries, width], columns in RowColumns's order
  float* m;           // [queries]
  float* l;
  float* scale;
};

// Scores of `tokens` rows of one page for NV vectors of queries.
template <class S, int NV>
void QueryScores(const uint32_t* rows, int64_t stride, int tokens, const uint32_t* q, int queries, int64_t units,
                 float* scores) {
  // As many sums as fit the registers.
  constexpr bool kWide = S::Vec::kLanes == 16;
  constexpr int kMost = kWide ? (NV == 1 ? 16 : 24 / NV) : 12 / NV;
  const QueryColumns<S> columns{q, queries};
  const int parts = Parts(tokens, kMost);
  for (int part = 0; part < parts; ++part) {
    const int row = part * tokens / parts, n = (part + 1) * tokens / parts - row;
    WithRows<kMost>(n, [&]<int MR>() {
      StoreProduct<S, MR, NV>(units, rows + row * stride, stride, 1, columns, scores + row * queries, queries);
    });
  }
}

template <class S>
void PageScoresEl(const uint32_t* rows, int64_t stride, int tokens, const uint32_t* q, int queries, int64_t units,
                  float* scores) {
  constexpr int L = S::Vec::kLanes;
  for (int query = 0; query < queries;) {
    const int vectors = (queries - query) / L;
    if (vectors >= 3) {
      QueryScores<S, 3>(rows, stride, tokens, q + query, queries, units, scores + query);
      query += 3 * L;
    } else if (vectors == 2) {
      QueryScores<S, 2>(rows, stride, tokens, q + query, queries, units, scores + query);
      query += 2 * L;
    } else {
      QueryScores<S, 1>(rows, stride, tokens, q + query, queries, units, scores + query);
      query += L;
    }
  }
}

// Weights of a strip of scores, query by query; updates m, l and scale.
template <class S>
void QueryWeights(const ElScratch& s, int tokens, int queries) {
  using V = typename S::Vec;
  for (int query = 0; query < queries; query += V::kLanes) {
    const float* scores = s.scores + query;
    const typename V::F m = V::Load(s.m + query);
    typename V::F top = m;
    for (int t = 0; t < tokens; ++t) top = V::Max(V::Load(scores + t * queries), top);
    const typename V::F shift = V::Sub(V::Zero(), V::Mul(top, V::Set(kLog2e)));
    const typename V::F scale = Exp2<V>(V::Mul(V::Sub(m, top), V::Set(kLog2e)));
    typename V::F sum = V::Zero();
    const auto weight = [&](int t) {
      return Exp2<V, kExpTerms<S>>(V::Fma(V::Load(scores + t * queries), V::Set(kLog2e), shift));
    };
    if constexpr (S::kPack == 1) {
      for (int t = 0; t < tokens; ++t) {
        const typename V::F w = weight(t);
        sum = V::Add(sum, w);
        V::Store(reinterpret_cast<float*>(s.weights) + t * queries + query, w);
      }
    } else {
      for (int t = 0; t < tokens; t += 2) {
        const typename V::F even = weight(t);
        const typename V::F odd = t + 1 < tokens ? weight(t + 1) : V::Zero();
        sum = V::Add(sum, V::Add(even, odd));
        S::StorePairs(s.weights + t / 2 * queries + query, even, odd);
      }
    }
    V::Store(s.m + query, top);
    V::Store(s.l + query, V::Fma(V::Load(s.l + query), scale, sum));
    V::Store(s.scale + query, scale);
  }
}

// Adds a strip's weighted states to the sums.
template <class S>
void AddStrip(const ElScratch& s, const uint32_t* const* pages, int64_t stride, int tokens, int padded, int queries,
              int64_t width) {
  using V = typename S::Vec;
  constexpr int kMost = kRegisterRows<V>, kPanel = 2 * V::kLanes;
  const int parts = Parts(queries, kMost);
  const auto units = [tokens](int page) {
    const int left = tokens - page * kPageTokens;
    return ((left < kPageTokens ? left : kPageTokens) + S::kPack - 1) / S::kPack;
  };
  for (int64_t column = 0; column < width; column += kPanel) {
    const auto columns = [&](int page) { return RowColumns<S>{pages[page] + column / S::kPack, stride}; };
    for (int part = 0; part < parts; ++part) {
      const int query = part * queries / parts, n = (part + 1) * queries / parts - query;
      WithRows<kMost>(n, [&]<int MR>() {
        AddProduct<S, MR, 2>(Parts(tokens, kPageTokens), units, s.weights + query, kPageTokens / S::kPack * padded, 1,
                             padded, columns, s.sums + query * width + column, width, s.scale + query);
      });
    }
  }
}

// sums / l -> states, in the order of columns.
template <class S>
void FinishQueries(const ElAttention& p, const ElScratch& s, int64_t width) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  for (int query = 0; query < p.queries; ++query) {
    const typename V::F by = V::Set(1.0f / s.l[query]);
    float* c = s.sums + query * width;
    for (int64_t j = 0; j < width; j += 2 * L) {
      typename V::F a = V::Mul(V::Load(c + j), by), b = V::Mul(V::Load(c + j + L), by);
      S::Wide::Unzip(a, b, &a, &b);
      V::Store(c + j, a);
      V::Store(c + j + L, b);
    }
    ToState<S>(c, p.d, p.out[query]);
  }
}

// The queries side by side, and the scratch as S::Wide has it.
template <class S>
class ElQueries {
 public:
  using V = typename S::Vec;
  using P = typename S::Wide;

  explicit ElQueries(const ElAttention& p)
      : p_(p),
        queries_(static_cast<int>(RoundUp(p.queries, V::kLanes))),
        row_(RoundUp(p.d, 32)),
        units_(p.units * S::kPack / P::kPack),
        width_(RoundUp(p.d, 2 * V::kLanes)) {
    scratch_.sums = p.scratch;
    scratch_.scores = scratch_.sums + kElQueries * width_;
    scratch_.weights = reinterpret_cast<uint32_t*>(scratch_.scores + kElQueries * kStripTokens);
    scratch_.m = scratch_.scores + 2 * kElQueries * kStripTokens;
    scratch_.l = scratch_.m + kElQueries;
    scratch_.scale = scratch_.l + kElQueries;
    scratch_.q = reinterpret_cast<uint32_t*>(scratch_.scale + kElQueries);
    wide_ = scratch_.scale + kElQueries + kElQueries * row_;
    for (int query = 0; query < queries_; ++query) {
      scratch_.m[query] = kNoScore;
      scratch_.l[query] = 0;
      const uint32_t* q = query < p.queries ? AsWide<S>(p.q[query], p.d, wide_) : nullptr;
      for (int64_t u = 0; u < units_; ++u) scratch_.q[u * queries_ + query] = q != nullptr ? q[u] : 0;
    }
    for (int64_t i = 0; i < p.queries * width_; ++i) scratch_.sums[i] = 0;
  }

  // The states of the strip's page, until those of the same page of another strip are asked for.
  const uint32_t* Page(int begin, int page) const {
    const int left = p_.tokens - begin - page * kPageTokens, count = left < kPageTokens ? left : kPageTokens;
    return AsWide<S>(p_.pages[begin / kPageTokens + page], count * row_, wide_ + page * kPageTokens * row_);
  }
  // Scores of the strip's page of `tokens`: [tokens, queries()].
  void Scores(const uint32_t* page, int tokens, float* scores) const {
    PageScoresEl<P>(page, stride(), tokens, scratch_.q, queries_, units_, scores);
  }

  const ElScratch& scratch() const { return scratch_; }
  int queries() const { return queries_; }  // in whole vectors
  int64_t stride() const { return row_ / P::kPack; }
  int64_t width() const { return width_; }

 private:
  const ElAttention& p_;
  const int queries_;
  const int64_t row_;    // numbers of a state's row
  const int64_t units_;  // of P
  const int64_t width_;  // of the sums
  ElScratch scratch_;
  float* wide_;
};

template <class S>
void AttendEl(const ElAttention& p) {
  using P = typename S::Wide;
  const ElQueries<S> all(p);
  const ElScratch& s = all.scratch();
  const int queries = all.queries();
  for (int begin = 0; begin < p.tokens; begin += kStripTokens) {
    const int tokens = p.tokens - begin < kStripTokens ? p.tokens - begin : kStripTokens;
    const uint32_t* pages[kStripTokens / kPageTokens];
    for (int page = 0; page < Parts(tokens, kPageTokens); ++page) {
      const int left = tokens - page * kPageTokens, count = left < kPageTokens ? left : kPageTokens;
      pages[page] = all.Page(begin, page);
      all.Scores(pages[page], count, s.scores + page * kPageTokens * queries);
    }
    if (p.bias != nullptr) {
      for (int query = 0; query < p.queries; ++query) {
        const float* bias = p.bias[query] + begin;
        for (int t = 0; t < tokens; ++t) s.scores[t * queries + query] += bias[t];
      }
    }
    QueryWeights<P>(s, tokens, queries);
    AddStrip<P>(s, pages, all.stride(), tokens, queries, p.queries, all.width());
  }
  FinishQueries<S>(p, s, all.width());
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_EL_ATTENTION_INL_H_
