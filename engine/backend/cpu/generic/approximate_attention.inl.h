// Attention whose weights are approximated, which takes a query's scores over all tokens: what becomes of a weight
// depends on the largest score, the sum of all exponentials, or the k-th largest score. So it goes over the tokens
// twice: once for the scores of a chunk of queries, which are kept, and once for the weighted sums. What it needs
// beside the exact kernels' scratch grows with the tokens, and not with their square.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_APPROXIMATE_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_APPROXIMATE_ATTENTION_INL_H_

#include "engine/backend/cpu/generic/el_attention.inl.h"
#include "engine/backend/cpu/generic/largest.inl.h"
#include "engine/backend/cpu/generic/packed_attention.inl.h"

namespace elserve::cpu {
namespace {

// The nearest of kLogValue; of what is below the scale the first.
template <class V>
inline typename V::F LogValue(typename V::F weight) {
  typename V::F value = V::Set(kLogValue[0]);
  for (int i = 1; i < kLogValues; ++i) {
    value = V::Max(V::WhereAtLeast(weight, V::Set(kLogEdges[i]), V::Set(kLogValue[i])), value);
  }
  return value;
}

// One query's scores over all tokens, with room for whole pages, become its weights; zeros behind the last. Returns
// their sum.
template <class V>
float ApproximateRow(const AttentionApproximation& approximation, int tokens, float* scores) {
  const int padded = static_cast<int>(RoundUp(tokens, kPageTokens));
  for (int t = tokens; t < padded; ++t) scores[t] = kMinusInfinity;
  float limit = kMinusInfinity;
  if (approximation.top_k > 0 && approximation.top_k < tokens) {
    limit = LimitOfLargest<V>(scores, padded, approximation.top_k, kMinusInfinity);
  }
  typename V::F top = V::Set(kMinusInfinity);
  for (int t = 0; t < padded; t += V::kLanes) top = V::Max(V::Load(scores + t), top);
  const typename V::F greatest = V::Set(V::ReduceMax(top)), least_score = V::Set(limit);
  typename V::F sum = V::Zero();
  for (int t = 0; t < padded; t += V::kLanes) {
    const typename V::F score = V::Load(scores + t);
    const typename V::F weight =
        V::WhereAtLeast(score, least_score, Exp2<V>(V::Mul(V::Sub(score, greatest), V::Set(kLog2e))));
    sum = V::Add(sum, weight);
    V::Store(scores + t, weight);
  }
  // Of the greatest score the weight is 1 so far.
  const float largest = 1.0f / V::ReduceAdd(sum);
  const bool rounds = approximation.values == AttentionValues::kLog3Bit;
  const typename V::F by = V::Set(largest);
  const typename V::F least = V::Set(approximation.loses_weight() ? approximation.LeastKept(tokens, largest) : 0);
  typename V::F total = V::Zero();
  for (int t = 0; t < padded; t += V::kLanes) {
    typename V::F weight = V::Mul(V::Load(scores + t), by);
    weight = V::WhereAtLeast(weight, least, rounds ? LogValue<V>(weight) : weight);
    total = V::Add(total, weight);
    V::Store(scores + t, weight);
  }
  return V::ReduceAdd(total);
}

// Scores of up to S::kRows rows of one head.
template <class S>
int64_t ApproximatePackedFloats(int64_t tokens) {
  return S::kRows * RoundUp(tokens, kPageTokens);
}

template <class S>
void ApproximatePacked(const PackedAttention& p, const ApproximateWeights& w) {
  // Of pages as they are, by rows of A that are widened where S multiplies float32.
  using P = typename S::AsRows;
  using Weight = typename P::Number;
  constexpr int kPanel = 2 * S::Vec::kLanes;
  const int units = (p.head_dim + S::kPack - 1) / S::kPack, panels = (p.head_dim + kPanel - 1) / kPanel;
  const int pages = Parts(p.tokens, kPageTokens), parts = Parts(p.rows, S::kRows);
  const int64_t width = int64_t{panels} * kPanel, stride = int64_t{pages} * kPageTokens;
  const int64_t page_units = PageUnits<S>(p.head_dim);
  float ones[S::kRows];
  for (float& one : ones) one = 1;
  float* sums = p.scratch;                // [rows of a part, width]
  float* wide = sums + S::kRows * width;  // [rows of a part, head_dim]: queries, where they are widened
  for (int item = 0; item < p.heads * parts; ++item) {
    const int head = item / parts, part = item % parts;
    const int row = static_cast<int>(int64_t{part} * p.rows / parts);
    const int rows = static_cast<int>(int64_t{part + 1} * p.rows / parts) - row;
    const int64_t column = int64_t{head} * p.head_dim;
    const uint32_t* q = p.q + row * p.q_stride + column / S::kPack;
    for (int i = 0; S::kWidens && i < rows; ++i) {
      FromState<S>(reinterpret_cast<const std::byte*>(q + i * p.q_stride), p.head_dim, wide + i * p.head_dim);
    }
    if (S::kWidens) q = reinterpret_cast<const uint32_t*>(wide);
    for (int page = 0; page < pages; ++page) {
      PageScores<P>(q, S::kWidens ? p.head_dim : p.q_stride, rows, units, p.pages[page] + head * page_units,
                    w.scores + page * kPageTokens, stride);
    }
    for (int i = 0; i < rows; ++i) {
      float* scores = w.scores + i * stride;
      if (p.bias != nullptr) {
        const float* bias = p.bias + head * p.bias_head + (row + i) * p.bias_row;
        for (int t = 0; t < p.tokens; ++t) scores[t] += bias[t];
      }
      ApproximateRow<typename S::Vec>(w.approximation, p.tokens, scores);
      ToState<Weight>(scores, stride, reinterpret_cast<std::byte*>(scores));  // in their place
      for (int64_t j = 0; j < width; ++j) sums[i * width + j] = 0;
    }
    for (int panel = 0; panel < panels; ++panel) {
      const int64_t at = head * page_units + int64_t{units} * kPageTokens + panel * (kPageTokens / P::kPack) * kPanel;
      AddPanels<P>(
          rows, pages, kPageTokens / P::kPack, reinterpret_cast<const uint32_t*>(w.scores), stride,
          [&](int page) { return p.pages[page] + at; }, sums + panel * kPanel, width, ones);
    }
    for (int i = 0; i < rows; ++i) {
      ToState<S>(sums + i * width, p.head_dim,
                 p.out + (row + i) * p.out_stride + column * static_cast<int64_t>(sizeof(typename S::State)));
    }
  }
}

// Scores of kElQueries queries, and one query's by themselves.
inline int64_t ApproximateElFloats(int64_t tokens) { return (kElQueries + 1) * RoundUp(tokens, kPageTokens); }

// One query's weights, as AddStrip reads them beside those of the others: [tokens / kPack, queries]. They do not stay.
template <class P>
void SpreadWeights(float* weights, int tokens, int query, int queries, float* to) {
  if constexpr (P::kPack == 1) {
    for (int t = 0; t < tokens; ++t) to[t * queries + query] = weights[t];
  } else {
    auto* const states = reinterpret_cast<std::byte*>(weights);
    ToState<P>(weights, tokens, states);  // in their place
    for (int u = 0; u < tokens / P::kPack; ++u) {
      std::memcpy(to + u * queries + query, states + u * sizeof(uint32_t), sizeof(uint32_t));
    }
  }
}

template <class S>
void ApproximateEl(const ElAttention& p, const ApproximateWeights& w) {
  using P = typename S::Wide;
  const ElQueries<S> all(p);
  const int queries = all.queries(), padded = static_cast<int>(RoundUp(p.tokens, kPageTokens));
  float* scores = w.scores;                            // [padded, queries], then the weights
  float* row = scores + int64_t{kElQueries} * padded;  // [padded]: one query's
  const auto for_strips = [&](auto&& f) {
    for (int begin = 0; begin < p.tokens; begin += kStripTokens) {
      f(begin, p.tokens - begin < kStripTokens ? p.tokens - begin : kStripTokens);
    }
  };
  for_strips([&](int begin, int tokens) {
    for (int page = 0; page < Parts(tokens, kPageTokens); ++page) {
      const int left = tokens - page * kPageTokens, count = left < kPageTokens ? left : kPageTokens;
      all.Scores(all.Page(begin, page), count, scores + int64_t{begin + page * kPageTokens} * queries);
    }
  });
  for (int query = 0; query < p.queries; ++query) {
    const float* bias = p.bias != nullptr ? p.bias[query] : nullptr;
    for (int t = 0; t < p.tokens; ++t) {
      row[t] = scores[int64_t{t} * queries + query] + (bias != nullptr ? bias[t] : 0.0f);
    }
    const float total = ApproximateRow<typename S::Vec>(w.approximation, p.tokens, row);
    if (w.totals != nullptr) w.totals[query] = total;
    SpreadWeights<P>(row, padded, query, queries, scores);
  }
  ElScratch s = all.scratch();
  for (int query = 0; query < queries; ++query) s.scale[query] = s.l[query] = 1;
  for_strips([&](int begin, int tokens) {
    const uint32_t* pages[kStripTokens / kPageTokens];
    for (int page = 0; page < Parts(tokens, kPageTokens); ++page) pages[page] = all.Page(begin, page);
    s.weights = reinterpret_cast<uint32_t*>(scores) + int64_t{begin / P::kPack} * queries;
    AddStrip<P>(s, pages, all.stride(), tokens, queries, p.queries, all.width());
  });
  FinishQueries<S>(p, s, all.width());
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_APPROXIMATE_ATTENTION_INL_H_
