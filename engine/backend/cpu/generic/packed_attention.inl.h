// Attention over packed keys and values: queries are rows, tokens are columns.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PACKED_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PACKED_ATTENTION_INL_H_

#include "engine/backend/cpu/generic/key_value_pages.inl.h"
#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/generic/product.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

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

// Parts of rows, times heads, that go through a page together: a strip of keys and values is in the caches for all.
inline constexpr int kPartsAtOnce = 32;

template <class S>
constexpr int PackedRowsAtOnce(int heads) {
  return (heads < kPartsAtOnce ? kPartsAtOnce / heads : 1) * S::kRows;
}

// Up to PackedRowsAtOnce rows in attention, all heads. They are cut into even parts of at most kRows.
template <class S>
class PackedRows {
 public:
  PackedRows(const PackedAttention& p, int row, int rows)
      : p_(p),
        row_(row),
        rows_(rows),
        parts_(Parts(rows, kMost)),
        units_((p.head_dim + S::kPack - 1) / S::kPack),
        panels_((p.head_dim + kPanel - 1) / kPanel),
        width_(static_cast<int64_t>(panels_) * kPanel),
        page_units_(PageUnits<S>(p.head_dim)),
        scores_(p.scratch),
        weights_(scores_ + kMost * kStripTokens),
        sums_(scores_ + 2 * kMost * kStripTokens),
        m_(sums_ + p.heads * rows * width_),
        l_(m_ + p.heads * rows),
        wide_queries_(l_ + p.heads * rows),
        wide_pages_(wide_queries_ + (S::kWidens ? p.heads * rows * p.head_dim : 0)) {
    for (int64_t i = 0; i < p.heads * rows * width_; ++i) sums_[i] = 0;
    for (int i = 0; i < p.heads * rows; ++i) m_[i] = kNoScore, l_[i] = 0;
    for (int i = 0; S::kWidens && i < rows; ++i) {
      FromState<S>(reinterpret_cast<const std::byte*>(p.q + (row + i) * p.q_stride), p.heads * p.head_dim,
                   wide_queries_ + i * p.heads * p.head_dim);
    }
  }

  void Run() {
    for (int begin = 0; begin < p_.tokens; begin += p_.strip) {
      const int tokens = p_.tokens - begin < p_.strip ? p_.tokens - begin : p_.strip;
      for (int head = 0; head < p_.heads; ++head) AddStrip(head, begin, tokens);
    }
    for (int head = 0; head < p_.heads; ++head) Finish(head);
  }

 private:
  using V = typename S::Vec;
  using State = typename S::State;
  // What the weights are to the product with the values.
  using Weight = typename S::AsRows::Number;
  static constexpr int kMost = S::kRows, kPanel = 2 * V::kLanes;

  void AddStrip(int head, int begin, int tokens) {
    const bool widened = WidensB<S>(parts_);
    const int count = Parts(tokens, kPageTokens);
    const uint32_t* pages[kStripTokens / kPageTokens];
    for (int page = 0; page < count; ++page) {
      pages[page] = p_.pages[begin / kPageTokens + page] + head * page_units_;
      if (!widened) continue;
      float* to = wide_pages_ + page * page_units_ * S::kPack;
      WidenUnits<V>(pages[page], page_units_ / V::kLanes, to);
      pages[page] = reinterpret_cast<const uint32_t*>(to);
    }
    WithProduct<S>(widened, [&]<class P>() {
      for (int part = 0; part < parts_; ++part) AddPart<P>(part, head, begin, tokens, pages, count);
    });
  }

  // A strip's weighted values to one part of the rows. P: the state type of the pages as they are given.
  template <class P>
  void AddPart(int part, int head, int begin, int tokens, const uint32_t* const* pages, int count) {
    const int row = part * rows_ / parts_, rows = (part + 1) * rows_ / parts_ - row;
    const int units = units_ * S::kPack / P::kPack, page_units = kPageTokens / P::kPack;
    const uint32_t* q = Queries(row, head);
    for (int page = 0; page < count; ++page) {
      PageScores<P>(q, QueryStride(), rows, units, pages[page], scores_ + page * kPageTokens, kStripTokens);
    }
    if (p_.bias != nullptr) {
      for (int i = 0; i < rows; ++i) {
        const float* bias = p_.bias + head * p_.bias_head + (row_ + row + i) * p_.bias_row + begin;
        for (int t = 0; t < tokens; ++t) scores_[i * kStripTokens + t] += bias[t];
      }
    }
    float scale[kMost];
    const int64_t first = static_cast<int64_t>(head) * rows_ + row;
    for (int i = 0; i < rows; ++i) {
      scale[i] = RowWeights<Weight>(scores_ + i * kStripTokens, tokens, &m_[first + i], &l_[first + i],
                                    reinterpret_cast<typename Weight::State*>(weights_) + i * kStripTokens);
    }
    for (int panel = 0; panel < panels_; ++panel) {
      const int64_t at = static_cast<int64_t>(units) * kPageTokens + panel * page_units * kPanel;
      AddPanels<P>(
          rows, count, page_units, reinterpret_cast<const uint32_t*>(weights_), kStripTokens / Weight::kPack,
          [&](int page) { return pages[page] + at; }, sums_ + first * width_ + panel * kPanel, width_, scale);
    }
  }

  const uint32_t* Queries(int row, int head) const {
    const int64_t column = static_cast<int64_t>(head) * p_.head_dim;
    if (S::kWidens) return reinterpret_cast<const uint32_t*>(wide_queries_ + row * QueryStride() + column);
    return p_.q + (row_ + row) * QueryStride() + column / S::kPack;
  }
  int64_t QueryStride() const { return S::kWidens ? static_cast<int64_t>(p_.heads) * p_.head_dim : p_.q_stride; }

  void Finish(int head) {
    for (int i = 0; i < rows_; ++i) {
      const int64_t at = static_cast<int64_t>(head) * rows_ + i;
      StoreMeans<S>(sums_ + at * width_, width_, l_[at], p_.head_dim,
                    p_.out + (row_ + i) * p_.out_stride + head * p_.head_dim * static_cast<int64_t>(sizeof(State)));
    }
  }

  const PackedAttention& p_;
  const int row_, rows_, parts_;
  const int units_;           // of a query or key of one head
  const int panels_;          // of a head's values
  const int64_t width_;       // of a row of sums: whole panels
  const int64_t page_units_;  // one head's keys and values of a page
  float* scores_;             // [rows of a part, kStripTokens]
  float* weights_;            // the same, of Weight's states
  float* sums_;               // [heads, rows, width]
  float* m_;                  // [heads, rows]
  float* l_;                  // [heads, rows]
  float* wide_queries_;       // [rows, heads * head_dim], and
  float* wide_pages_;         // [pages of a strip, page_units * kPack]: once they are widened
};

// Scores and weights of a strip; sums, maximum and sum of weights of each row and head; queries and pages once they are
// widened.
template <class S>
int64_t PackedScratchFloats(int heads, int head_dim) {
  const int64_t most = S::kRows * (heads < kPartsAtOnce ? kPartsAtOnce : heads),
                width = RoundUp(head_dim, 2 * S::Vec::kLanes);
  const int64_t pages = kStripTokens / kPageTokens * PageUnits<S>(head_dim) * S::kPack;
  return 2 * S::kRows * kStripTokens + most * (width + 2) + (S::kWidens ? most * head_dim + pages : 0);
}

template <class S>
void AttendPacked(const PackedAttention& p) {
  const int parts = Parts(p.rows, PackedRowsAtOnce<S>(p.heads));
  for (int part = 0; part < parts; ++part) {
    const int row = static_cast<int>(static_cast<int64_t>(part) * p.rows / parts);
    PackedRows<S>(p, row, static_cast<int>(static_cast<int64_t>(part + 1) * p.rows / parts) - row).Run();
  }
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PACKED_ATTENTION_INL_H_
