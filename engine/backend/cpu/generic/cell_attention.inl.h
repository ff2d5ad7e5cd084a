// Attention of some rows of one document over cells of keys and values. Each row has a history of its own, and most of
// a beam's rows share most of it: a few cells at a time go through all rows and heads, so that a cell comes from memory
// once. Vectors run along the head, in float32 whatever the states are; a row's sums do not depend on the others.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_CELL_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_CELL_ATTENTION_INL_H_

#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/generic/product.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// Rows that go through the cells together, and cells of a strip.
inline constexpr int kCellRows = 8;
inline constexpr int kStripCells = 16;

inline int Least(int a, int b) { return a < b ? a : b; }

// Scores and sums of the rows.
template <class S>
int64_t CellScratchFloats(int heads, int head_dim, int64_t tokens) {
  return kCellRows * heads * (RoundUp(tokens, kPageTokens) + RoundUp(head_dim, S::Vec::kLanes) + 1);
}

// The dots of a query with as many keys as a vector has lanes.
template <class S>
typename S::Vec::F CellDots(const typename S::State* q, const typename S::State* const* keys, int head_dim) {
  using V = typename S::Vec;
  typename V::F sums[V::kLanes];
#pragma GCC unroll 16
  for (int t = 0; t < V::kLanes; ++t) sums[t] = V::Zero();
  int i = 0;
  for (; i + V::kLanes <= head_dim; i += V::kLanes) {
    const typename V::F x = S::Load(q + i);
#pragma GCC unroll 16
    for (int t = 0; t < V::kLanes; ++t) sums[t] = V::Fma(x, S::Load(keys[t] + i), sums[t]);
  }
  if (const int n = head_dim - i; n > 0) {
    const typename V::F x = S::LoadN(q + i, n);
#pragma GCC unroll 16
    for (int t = 0; t < V::kLanes; ++t) sums[t] = V::Fma(x, S::LoadN(keys[t] + i, n), sums[t]);
  }
  return V::SumEach(sums);
}

// sums[N vectors] += the weighted values of `tokens` cells; of the only vector no more than `columns` where kPart.
template <class S, int N, bool kPart, class Value>
void AddCells(const float* weights, int tokens, const Value& value, int columns, float* sums) {
  using V = typename S::Vec;
  typename V::F c[N];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) c[n] = V::Load(sums + n * V::kLanes);
  for (int t = 0; t < tokens; ++t) {
    const typename S::State* from = value(t);
    const typename V::F w = V::Set(weights[t]);
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      c[n] = V::Fma(w, kPart ? S::LoadN(from, columns) : S::Load(from + n * V::kLanes), c[n]);
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) V::Store(sums + n * V::kLanes, c[n]);
}

// Up to kCellRows rows, all heads.
template <class S>
class CellRows {
 public:
  CellRows(const CellAttention& p, const CellRow* rows, int count)
      : p_(p), rows_(rows), count_(count), width_(RoundUp(p.head_dim, V::kLanes)) {
    for (int i = 0; i < count; ++i) longest_ = rows[i].tokens > longest_ ? rows[i].tokens : longest_;
    stride_ = RoundUp(longest_, kPageTokens);
    sums_ = p.scratch + count * p.heads * stride_;
    totals_ = sums_ + count * p.heads * width_;
  }

  void Run() {
    Stream(0, [this](int i, int head, int begin) { Scores(i, head, begin); });
    for (int i = 0; i < count_; ++i) {
      for (int head = 0; head < p_.heads; ++head) {
        float m = kNoScore, *total = totals_ + i * p_.heads + head;
        *total = 0;
        RowWeights<Float32State<V>>(scores(i, head), rows_[i].tokens, &m, total, scores(i, head));
      }
    }
    for (int64_t i = 0; i < count_ * p_.heads * width_; ++i) sums_[i] = 0;
    Stream(p_.values, [this](int i, int head, int begin) { AddStrip(i, head, begin); });
    for (int i = 0; i < count_; ++i) {
      for (int head = 0; head < p_.heads; ++head) Finish(i, head);
    }
  }

 private:
  using V = typename S::Vec;
  using State = typename S::State;

  float* scores(int row, int head) const { return p_.scratch + (row * p_.heads + head) * stride_; }
  float* sums(int row, int head) const { return sums_ + (row * p_.heads + head) * width_; }
  const State* Cell(const CellRow& row, int t) const {
    return reinterpret_cast<const State*>(p_.cells + row.ancestry[t] * p_.cell_stride);
  }
  // How many cells of the strip the row has.
  static int Cells(const CellRow& row, int begin) { return Least(row.tokens - begin, kStripCells); }

  // Calls add(row, head, begin) for all strips, one after the other; `from`: of a cell, what they will read.
  template <class Add>
  void Stream(int64_t from, const Add& add) const {
    Fetch(from, 0);
    for (int begin = 0; begin < longest_; begin += kStripCells) {
      Fetch(from, begin + kStripCells);
      for (int i = 0; i < count_; ++i) {
        for (int head = 0; head < p_.heads && begin < rows_[i].tokens; ++head) add(i, head, begin);
      }
    }
  }

  // Cells are far apart in memory, so no processor fetches them by itself. Those that the row before has at the same
  // place are on their way.
  void Fetch(int64_t from, int begin) const {
    const int64_t bytes = static_cast<int64_t>(p_.heads) * p_.head_dim * static_cast<int64_t>(sizeof(State));
    for (int i = 0; i < count_; ++i) {
      const CellRow& row = rows_[i];
      for (int t = begin; t < begin + Cells(row, begin); ++t) {
        if (i > 0 && t < rows_[i - 1].tokens && rows_[i - 1].ancestry[t] == row.ancestry[t]) continue;
        const auto* at = reinterpret_cast<const char*>(Cell(row, t) + from);
        for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(at + line);
      }
    }
  }

  void Scores(int i, int head, int begin) const {
    const CellRow& row = rows_[i];
    const int64_t column = static_cast<int64_t>(head) * p_.head_dim;
    const State* q = reinterpret_cast<const State*>(row.q) + column;
    float* to = scores(i, head) + begin;
    const int cells = Cells(row, begin);
    for (int t = 0; t < cells; t += V::kLanes) {
      const State* keys[V::kLanes];
      // The last cell stands in for those that the row does not have.
      for (int j = 0; j < V::kLanes; ++j) keys[j] = Cell(row, begin + Least(t + j, cells - 1)) + column;
      V::Store(to + t, CellDots<S>(q, keys, p_.head_dim));
    }
    if (row.bias == nullptr) return;
    const float* bias = row.bias + head * p_.bias_head + begin;
    for (int t = 0; t < cells; ++t) to[t] += bias[t];
  }

  void AddStrip(int i, int head, int begin) const {
    constexpr int kMost = 8;
    const CellRow& row = rows_[i];
    const int cells = Cells(row, begin), vectors = p_.head_dim / V::kLanes, rest = p_.head_dim % V::kLanes;
    const float* weights = scores(i, head) + begin;
    float* to = sums(i, head);
    const auto from = [&](int column) {
      const int64_t at = p_.values + static_cast<int64_t>(head) * p_.head_dim + column;
      return [&, at](int t) { return Cell(row, begin + t) + at; };
    };
    for (int v = 0; v < vectors; v += kMost) {
      WithRows<kMost>(Least(vectors - v, kMost), [&]<int N>() {
        AddCells<S, N, false>(weights, cells, from(v * V::kLanes), N * V::kLanes, to + v * V::kLanes);
      });
    }
    const int last = vectors * V::kLanes;
    if (rest > 0) AddCells<S, 1, true>(weights, cells, from(last), rest, to + last);
  }

  void Finish(int i, int head) const {
    const int64_t column = static_cast<int64_t>(head) * p_.head_dim;
    StoreMeans<S>(sums(i, head), width_, totals_[i * p_.heads + head], p_.head_dim,
                  rows_[i].out + column * static_cast<int64_t>(sizeof(State)));
  }

  const CellAttention& p_;
  const CellRow* rows_;
  const int count_;
  const int64_t width_;  // of a head's sums: whole vectors
  int longest_ = 0;
  int64_t stride_;  // of a head's scores
  float* sums_;     // [rows, heads, width]
  float* totals_;   // [rows, heads]: sums of the weights
};

template <class S>
void AttendCells(const CellAttention& p) {
  for (int row = 0; row < p.count; row += kCellRows) {
    CellRows<S>(p, p.rows + row, Least(p.count - row, kCellRows)).Run();
  }
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_CELL_ATTENTION_INL_H_
