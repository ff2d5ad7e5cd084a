// Attention as tiled matrix work with an online softmax: for each tile of tokens, scores by a product, their weights,
// and the weighted sum by another product. A query keeps the maximum m, the sum l of its weights and the sum c of
// weighted states; a tile with a new maximum scales l and c by exp(m - new m).
#ifndef ELSERVE_ENGINE_BACKEND_CPU_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_ATTENTION_INL_H_

#include <limits>

#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/linear.inl.h"
#include "engine/backend/cpu/math.inl.h"
#include "engine/backend/cpu/product.inl.h"
#include "engine/backend/cpu/state.inl.h"

namespace elserve::cpu {
namespace {

// Terms of the weights' exponential: bfloat16 weights need no more than 4.
template <class S>
inline constexpr int kExpTerms = S::kPack == 2 ? 4 : 6;

// The maximum before the first score: below all of them, and finite, since infinity minus infinity is no number.
constexpr float kNoScore = -1e30f;

// --- Packed keys and values: queries are rows, tokens are columns. ---

// Weights of one row's scores [tokens] -> states, zeros up to kPageTokens' multiple; returns what scales its old sums.
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

// Panel after panel: one stream through the keys, which the processor's prefetchers follow.
template <class S>
void PageScores(const uint32_t* q, int64_t q_stride, int rows, int units, const uint32_t* keys, float* scores,
                int64_t stride) {
  constexpr int kPanel = 2 * S::Vec::kLanes;
  const int64_t panel_units = static_cast<int64_t>(units) * kPanel;
  for (int panel = 0; panel < kPageTokens / kPanel; ++panel) {
    StorePanels<S, 2>(rows, units, q, q_stride, keys + panel * panel_units, panel_units, scores + panel * kPanel,
                      stride);
  }
}

// Up to kRows rows in attention, all heads.
template <class S>
class PackedRows {
 public:
  PackedRows(const PackedAttention& p, int row, int rows)
      : p_(p),
        row_(row),
        rows_(rows),
        units_((p.head_dim + S::kPack - 1) / S::kPack),
        panels_((p.head_dim + kPanel - 1) / kPanel),
        width_(static_cast<int64_t>(panels_) * kPanel),
        page_units_(static_cast<int64_t>(units_) * kPageTokens + panels_ * kPanel * kPageUnits),
        scores_(p.scratch),
        weights_(reinterpret_cast<State*>(scores_ + kMost * kAttentionTile)),
        sums_(scores_ + 2 * kMost * kAttentionTile),
        m_(sums_ + p.heads * kMost * width_),
        l_(m_ + p.heads * kMost) {
    for (int64_t i = 0; i < p.heads * kMost * width_; ++i) sums_[i] = 0;
    for (int i = 0; i < p.heads * kMost; ++i) m_[i] = kNoScore, l_[i] = 0;
  }

  void Run() {
    for (int begin = 0; begin < p_.tokens; begin += p_.tile) {
      const int tokens = p_.tokens - begin < p_.tile ? p_.tokens - begin : p_.tile;
      for (int head = 0; head < p_.heads; ++head) AddTile(head, p_.pages + begin / kPageTokens, tokens);
    }
    for (int head = 0; head < p_.heads; ++head) Finish(head);
  }

 private:
  using V = typename S::Vec;
  using State = typename S::State;
  static constexpr int kMost = S::kRows, kPanel = 2 * V::kLanes, kPageUnits = kPageTokens / S::kPack;

  void AddTile(int head, const uint32_t* const* pages, int tokens) {
    const int count = (tokens + kPageTokens - 1) / kPageTokens;
    const uint32_t* q = p_.q + row_ * p_.q_stride + static_cast<int64_t>(head) * p_.head_dim / S::kPack;
    for (int page = 0; page < count; ++page) {
      const uint32_t* keys = pages[page] + head * page_units_;
      float* to = scores_ + page * kPageTokens;
      PageScores<S>(q, p_.q_stride, rows_, units_, keys, to, kAttentionTile);
    }
    float scale[kMost];
    for (int i = 0; i < rows_; ++i) {
      scale[i] = RowWeights<S>(scores_ + i * kAttentionTile, tokens, &m_[head * kMost + i], &l_[head * kMost + i],
                               weights_ + i * kAttentionTile);
    }
    for (int panel = 0; panel < panels_; ++panel) {
      const int64_t at = head * page_units_ + static_cast<int64_t>(units_) * kPageTokens + panel * kPageUnits * kPanel;
      AddPanels<S>(
          rows_, count, kPageUnits, reinterpret_cast<const uint32_t*>(weights_), kAttentionTile / S::kPack,
          [&](int page) { return pages[page] + at; }, sums_ + head * kMost * width_ + panel * kPanel, width_, scale);
    }
  }

  void Finish(int head) {
    for (int i = 0; i < rows_; ++i) {
      const typename V::F by = V::Set(1.0f / l_[head * kMost + i]);
      float* c = sums_ + (head * kMost + i) * width_;
      for (int64_t j = 0; j < width_; j += V::kLanes) V::Store(c + j, V::Mul(V::Load(c + j), by));
      ToState<S>(c, p_.head_dim,
                 p_.out + (row_ + i) * p_.out_stride + head * p_.head_dim * static_cast<int64_t>(sizeof(State)));
    }
  }

  const PackedAttention& p_;
  const int row_, rows_;
  const int units_;           // of a query or key of one head
  const int panels_;          // of a head's values
  const int64_t width_;       // of a row of sums: whole panels
  const int64_t page_units_;  // one head's keys and values of a page
  float* scores_;             // [rows, kAttentionTile]
  State* weights_;            // [rows, kAttentionTile]
  float* sums_;               // [heads, kMost, width]
  float* m_;                  // [heads, kMost]
  float* l_;                  // [heads, kMost]
};

template <class S>
void AttendPacked(const PackedAttention& p) {
  const int parts = Parts(p.rows, S::kRows);
  for (int part = 0; part < parts; ++part) {
    const int row = static_cast<int>(static_cast<int64_t>(part) * p.rows / parts);
    PackedRows<S>(p, row, static_cast<int>(static_cast<int64_t>(part + 1) * p.rows / parts) - row).Run();
  }
}

// --- States: tokens are rows, queries are columns ("lanes"), so that one layout of the states serves both products.
// ---

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

// --- Cells of keys and values: one query a head, so vectors run along the head. ---

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

#endif  // ELSERVE_ENGINE_BACKEND_CPU_ATTENTION_INL_H_
