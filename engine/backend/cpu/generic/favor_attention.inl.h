// What features of FAVOR+ sum up of a document: features are rows, tokens are columns.
//
// FAVOR+ is two softmaxes one after the other. With a_is = w_i.k_s - |k_s|^2/2, the values that feature i sums up are
// u_i = sum_s softmax_s(a_is) v_s times exp(L_i), L_i = log(sum_s exp(a_is)); and a query's answer is
// sum_i softmax_i(w_i.q + L_i) u_i. The first is here: attention of the features, as queries, over the document's
// tokens. The second is attention of the queries over the features, as keys: packed_attention does it. So each has the
// online softmax's maxima and no other care for overflow is needed.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_FAVOR_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_FAVOR_ATTENTION_INL_H_

#include <cmath>

#include "engine/backend/cpu/generic/key_value_pages.inl.h"
#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/generic/packed_attention.inl.h"
#include "engine/backend/cpu/generic/product.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// Half of the squared length of n states, its sum in the order of vectors.
template <class S>
float HalfSquare(const std::byte* states, int n) {
  using V = typename S::Vec;
  const auto* x = reinterpret_cast<const typename S::State*>(states);
  typename V::F sum = V::Zero();
  int i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) sum = V::Fma(S::Load(x + i), S::Load(x + i), sum);
  if (i < n) {
    const typename V::F last = S::LoadN(x + i, n - i);
    sum = V::Fma(last, last, sum);
  }
  return 0.5f * V::ReduceAdd(sum);
}

// All features of a call. They are cut into even parts of at most kRows; a strip's keys and values are packed once, for
// all of them.
template <class S>
class FeatureRows {
 public:
  explicit FeatureRows(const FavorSums& p)
      : p_(p),
        parts_(Parts(p.rows, kMost)),
        units_((p.head_dim + S::kPack - 1) / S::kPack),
        width_(RoundUp(p.head_dim, kPanel)),
        page_units_(PageUnits<S>(p.head_dim)),
        scores_(p.scratch),
        weights_(scores_ + kMost * kStripTokens),
        half_squares_(weights_ + kMost * kStripTokens),
        sums_(half_squares_ + kStripTokens),
        m_(sums_ + p.rows * width_),
        l_(m_ + p.rows),
        pages_(reinterpret_cast<uint32_t*>(l_ + p.rows)),
        wide_features_(reinterpret_cast<float*>(pages_ + kPages * page_units_)),
        wide_pages_(wide_features_ + (S::kWidens ? int64_t{p.rows} * p.head_dim : 0)) {
    for (int64_t i = 0; i < p.rows * width_; ++i) sums_[i] = 0;
    for (int i = 0; i < p.rows; ++i) m_[i] = kNoScore, l_[i] = 0;
    for (int i = 0; S::kWidens && i < p.rows; ++i) {
      FromState<S>(p.features + i * p.feature_stride, p.head_dim, wide_features_ + int64_t{i} * p.head_dim);
    }
  }

  void Run() {
    for (int begin = 0; begin < p_.tokens; begin += kStripTokens) {
      AddStrip(begin, p_.tokens - begin < kStripTokens ? p_.tokens - begin : kStripTokens);
    }
    for (int i = 0; i < p_.rows; ++i) {
      StoreMeans<S>(sums_ + i * width_, width_, l_[i], p_.head_dim, p_.means + i * p_.feature_stride);
      p_.log_sums[i] = m_[i] + std::log(l_[i]);
    }
  }

 private:
  using V = typename S::Vec;
  using Weight = typename S::AsRows::Number;
  static constexpr int kMost = S::kRows, kPanel = 2 * V::kLanes, kPages = kStripTokens / kPageTokens;

  void AddStrip(int begin, int tokens) {
    const bool widened = WidensB<S>(parts_);
    const int count = Parts(tokens, kPageTokens);
    const uint32_t* pages[kPages];
    for (int page = 0; page < count; ++page) {
      const int first = page * kPageTokens;
      uint32_t* to = pages_ + page * page_units_;
      PackPage<S>({.keys = p_.keys + (begin + first) * p_.stride,
                   .values = p_.values + (begin + first) * p_.stride,
                   .stride = p_.stride,
                   .tokens = tokens - first < kPageTokens ? tokens - first : kPageTokens,
                   .head_dim = p_.head_dim,
                   .page = to});
      pages[page] = to;
      if (!widened) continue;
      float* wide = wide_pages_ + page * page_units_ * S::kPack;
      WidenUnits<V>(to, page_units_ / V::kLanes, wide);
      pages[page] = reinterpret_cast<const uint32_t*>(wide);
    }
    for (int t = 0; t < tokens; ++t) half_squares_[t] = HalfSquare<S>(p_.keys + (begin + t) * p_.stride, p_.head_dim);
    WithProduct<S>(widened, [&]<class P>() {
      for (int part = 0; part < parts_; ++part) AddPart<P>(part, tokens, pages, count);
    });
  }

  // A strip's weighted values to one part of the features. P: the state type of the pages as they are given.
  template <class P>
  void AddPart(int part, int tokens, const uint32_t* const* pages, int count) {
    const int row = Begin(part), rows = Begin(part + 1) - row;
    const int units = units_ * S::kPack / P::kPack, page_units = kPageTokens / P::kPack;
    for (int page = 0; page < count; ++page) {
      PageScores<P>(Features(row), FeatureStride(), rows, units, pages[page], scores_ + page * kPageTokens,
                    kStripTokens);
    }
    float scale[kMost];
    for (int i = 0; i < rows; ++i) {
      float* scores = scores_ + i * kStripTokens;
      for (int t = 0; t < tokens; ++t) scores[t] -= half_squares_[t];
      scale[i] = RowWeights<Weight>(scores, tokens, &m_[row + i], &l_[row + i],
                                    reinterpret_cast<typename Weight::State*>(weights_) + i * kStripTokens);
    }
    for (int64_t column = 0; column < width_; column += kPanel) {
      const int64_t at = int64_t{units} * kPageTokens + column * page_units;
      AddPanels<P>(
          rows, count, page_units, reinterpret_cast<const uint32_t*>(weights_), kStripTokens / Weight::kPack,
          [&](int page) { return pages[page] + at; }, sums_ + row * width_ + column, width_, scale);
    }
  }

  int Begin(int part) const { return static_cast<int>(int64_t{part} * p_.rows / parts_); }
  const uint32_t* Features(int row) const {
    if (S::kWidens) return reinterpret_cast<const uint32_t*>(wide_features_ + int64_t{row} * p_.head_dim);
    return reinterpret_cast<const uint32_t*>(p_.features + row * p_.feature_stride);
  }
  int64_t FeatureStride() const { return S::kWidens ? p_.head_dim : p_.feature_stride / 4; }

  const FavorSums& p_;
  const int parts_;
  const int units_;           // of a feature or key
  const int64_t width_;       // of a row of sums: whole panels
  const int64_t page_units_;  // keys and values of a page
  float* scores_;             // [rows of a part, kStripTokens]
  float* weights_;            // the same, of Weight's states
  float* half_squares_;       // [kStripTokens]: of the keys
  float* sums_;               // [rows, width]
  float* m_;                  // [rows]
  float* l_;                  // [rows]
  uint32_t* pages_;           // [kPages, page_units]
  float* wide_features_;      // [rows, head_dim], and
  float* wide_pages_;         // [kPages, page_units * kPack]: once they are widened
};

template <class S>
int64_t FavorScratchFloats(int rows, int head_dim) {
  const int64_t width = RoundUp(head_dim, 2 * S::Vec::kLanes);
  const int64_t pages = kStripTokens / kPageTokens * PageUnits<S>(head_dim);
  return (2 * S::kRows + 1) * kStripTokens + rows * (width + 2) + pages +
         (S::kWidens ? int64_t{rows} * head_dim + pages * S::kPack : 0);
}

template <class S>
void SumFavor(const FavorSums& p) {
  FeatureRows<S>(p).Run();
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_FAVOR_ATTENTION_INL_H_
