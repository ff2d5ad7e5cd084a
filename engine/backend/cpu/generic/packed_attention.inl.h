// Attention over packed keys and values: queries are rows, tokens are columns.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PACKED_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PACKED_ATTENTION_INL_H_

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
        weights_(reinterpret_cast<State*>(scores_ + kMost * kStripTokens)),
        sums_(scores_ + 2 * kMost * kStripTokens),
        m_(sums_ + p.heads * kMost * width_),
        l_(m_ + p.heads * kMost) {
    for (int64_t i = 0; i < p.heads * kMost * width_; ++i) sums_[i] = 0;
    for (int i = 0; i < p.heads * kMost; ++i) m_[i] = kNoScore, l_[i] = 0;
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
  static constexpr int kMost = S::kRows, kPanel = 2 * V::kLanes, kPageUnits = kPageTokens / S::kPack;

  void AddStrip(int head, int begin, int tokens) {
    const uint32_t* const* pages = p_.pages + begin / kPageTokens;
    const int count = (tokens + kPageTokens - 1) / kPageTokens;
    const uint32_t* q = p_.q + row_ * p_.q_stride + static_cast<int64_t>(head) * p_.head_dim / S::kPack;
    for (int page = 0; page < count; ++page) {
      const uint32_t* keys = pages[page] + head * page_units_;
      float* to = scores_ + page * kPageTokens;
      PageScores<S>(q, p_.q_stride, rows_, units_, keys, to, kStripTokens);
    }
    if (p_.bias != nullptr) {
      for (int i = 0; i < rows_; ++i) {
        const float* bias = p_.bias + head * p_.bias_head + (row_ + i) * p_.bias_row + begin;
        for (int t = 0; t < tokens; ++t) scores_[i * kStripTokens + t] += bias[t];
      }
    }
    float scale[kMost];
    for (int i = 0; i < rows_; ++i) {
      scale[i] = RowWeights<S>(scores_ + i * kStripTokens, tokens, &m_[head * kMost + i], &l_[head * kMost + i],
                               weights_ + i * kStripTokens);
    }
    for (int panel = 0; panel < panels_; ++panel) {
      const int64_t at = head * page_units_ + static_cast<int64_t>(units_) * kPageTokens + panel * kPageUnits * kPanel;
      AddPanels<S>(
          rows_, count, kPageUnits, reinterpret_cast<const uint32_t*>(weights_), kStripTokens / S::kPack,
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
  float* scores_;             // [rows, kStripTokens]
  State* weights_;            // [rows, kStripTokens]
  float* sums_;               // [heads, kMost, width]
  float* m_;                  // [heads, kMost]
  float* l_;                  // [heads, kMost]
};

// Scores and weights of a strip; sums, maximum and sum of weights of each head.
template <class S>
int64_t PackedScratchFloats(int heads, int head_dim) {
  return S::kRows * (2 * kStripTokens + heads * (RoundUp(head_dim, 2 * S::Vec::kLanes) + 2));
}

template <class S>
void AttendPacked(const PackedAttention& p) {
  const int parts = Parts(p.rows, S::kRows);
  for (int part = 0; part < parts; ++part) {
    const int row = static_cast<int>(static_cast<int64_t>(part) * p.rows / parts);
    PackedRows<S>(p, row, static_cast<int>(static_cast<int64_t>(part + 1) * p.rows / parts) - row).Run();
  }
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PACKED_ATTENTION_INL_H_
