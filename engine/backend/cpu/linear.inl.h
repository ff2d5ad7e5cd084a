// Linear and the packing of its weights' neighbours: keys and values.
//
// A task has up to kRowBlock rows and some panels. For each panel (which streams from the second-level cache) the rows
// are cut into even parts of at most S::kRows, the product's registers.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_LINEAR_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_LINEAR_INL_H_

#include <cstring>

#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/math.inl.h"
#include "engine/backend/cpu/product.inl.h"
#include "engine/backend/cpu/rows.inl.h"

namespace elserve::cpu {
namespace {

// activation(tile + bias) + residual -> out, for columns [begin, begin + width) of the product.
template <class S>
void FinishLinear(const LinearBlock& b, const float* tile, int64_t tile_stride, int row, int rows, int64_t begin,
                  int64_t width) {
  using V = typename S::Vec;
  for (int m = 0; m < rows; ++m) {
    const float* from = tile + m * tile_stride;
    const float* residual = b.residual ? b.residual + (row + m) * b.residual_stride + begin : nullptr;
    for (int64_t i = 0; i < width; i += V::kLanes) {
      typename V::F x = V::Add(V::Load(from + i), V::Load(b.bias + begin + i));
      x = Activate<V>(b.activation, x);
      const int64_t at = (row + m) * b.out_stride + begin + i;
      const int n = static_cast<int>(width - i);
      if (n >= V::kLanes) {
        if (residual) x = V::Add(x, V::Load(residual + i));
        if (b.out_state) {
          S::Store(reinterpret_cast<typename S::State*>(b.out) + at, x);
        } else {
          V::Store(reinterpret_cast<float*>(b.out) + at, x);
        }
      } else {
        if (residual) x = V::Add(x, V::LoadN(residual + i, n));
        if (b.out_state) {
          S::StoreN(reinterpret_cast<typename S::State*>(b.out) + at, x, n);
        } else {
          V::StoreN(reinterpret_cast<float*>(b.out) + at, x, n);
        }
      }
    }
  }
}

// Panels [panel, panel + NV / 2) for all rows of the block.
template <class S, int NV>
void LinearPanels(const LinearBlock& b, int panel) {
  using V = typename S::Vec;
  constexpr int kMost = 2 * S::kRows / NV;
  constexpr int64_t kWidth = NV * V::kLanes;
  alignas(64) float tile[kMost * kWidth];
  const int64_t panel_units = b.units * 2 * V::kLanes;
  const uint32_t* columns = b.panels + panel * panel_units;
  const int64_t begin = static_cast<int64_t>(panel) * 2 * V::kLanes;
  const int64_t width = b.cols - begin < kWidth ? b.cols - begin : kWidth;
  const int parts = Parts(b.rows, kMost);
  for (int part = 0; part < parts; ++part) {
    const int row = part * b.rows / parts, rows = (part + 1) * b.rows / parts - row;
    StorePanels<S, NV>(rows, b.units, b.a + row * b.a_stride, b.a_stride, columns, panel_units, tile, kWidth);
    FinishLinear<S>(b, tile, kWidth, row, rows, begin, width);
  }
}

template <class S>
void Linear(const LinearBlock& b) {
  // Few rows leave registers idle: two panels at once keep as many sums going.
  int panel = b.panel_begin;
  if constexpr (!S::kTiles) {
    if (b.rows <= S::kRows / 2) {
      for (; panel + 2 <= b.panel_end; panel += 2) LinearPanels<S, 4>(b, panel);
    }
  }
  for (; panel < b.panel_end; ++panel) LinearPanels<S, 2>(b, panel);
  if constexpr (S::kTiles) S::Leave();
  if (!b.sums) return;
  const int64_t begin = static_cast<int64_t>(b.panel_begin) * 2 * S::Vec::kLanes;
  const int64_t end = static_cast<int64_t>(b.panel_end) * 2 * S::Vec::kLanes;
  for (int row = 0; row < b.rows; ++row) {
    b.sums[row * b.sums_stride] = PartOf<typename S::Vec>(
        reinterpret_cast<const float*>(b.out) + row * b.out_stride + begin, (end < b.cols ? end : b.cols) - begin);
  }
}

template <class S>
void ToState(const float* in, int64_t n, std::byte* out) {
  using V = typename S::Vec;
  auto* to = reinterpret_cast<typename S::State*>(out);
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) S::Store(to + i, V::Load(in + i));
  if (i < n) S::StoreN(to + i, V::LoadN(in + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

template <class S>
void FromState(const std::byte* in, int64_t n, float* out) {
  using V = typename S::Vec;
  const auto* from = reinterpret_cast<const typename S::State*>(in);
  int64_t i = 0;
  for (; i + V::kLanes <= n; i += V::kLanes) V::Store(out + i, S::Load(from + i));
  if (i < n) V::StoreN(out + i, S::LoadN(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

// A page's keys, turned: [64 / panel][units][panel columns], a column a token.
template <class S>
void PackKeys(const std::byte* rows, int64_t stride, int tokens, int head_dim, uint32_t* page) {
  constexpr int kPanel = 2 * S::Vec::kLanes;
  const int units = head_dim / S::kPack;
  for (int first = 0; first < kPageTokens; first += kPanel) {
    uint32_t* to = page + first * units;
    const std::byte* from = rows + first * stride;
    const int columns = tokens - first < kPanel ? (tokens > first ? tokens - first : 0) : kPanel;
    for (int u = 0; u < units; ++u) {
      for (int t = 0; t < columns; ++t) std::memcpy(to + u * kPanel + t, from + t * stride + 4 * u, 4);
      for (int t = columns; t < kPanel; ++t) to[u * kPanel + t] = 0;
    }
  }
}

// A page's values: [panels][64 / pack][panel columns], kPack tokens a unit.
template <class S>
void PackValues(const std::byte* rows, int64_t stride, int tokens, int head_dim, uint32_t* page) {
  using V = typename S::Vec;
  using State = typename S::State;
  constexpr int kPanel = 2 * V::kLanes, kUnits = kPageTokens / S::kPack;
  const int panels = (head_dim + kPanel - 1) / kPanel;
  for (int panel = 0; panel < panels; ++panel) {
    const int columns = head_dim - panel * kPanel < kPanel ? head_dim - panel * kPanel : kPanel;
    for (int u = 0; u < kUnits; ++u) {
      const int t = u * S::kPack;
      const auto* even = reinterpret_cast<const State*>(rows + t * stride) + panel * kPanel;
      const auto* odd = reinterpret_cast<const State*>(rows + (t + 1) * stride) + panel * kPanel;
      uint32_t* to = page + (panel * kUnits + u) * kPanel;
      if (columns == kPanel && t + S::kPack <= tokens) {
        if constexpr (S::kPack == 1) {
          std::memcpy(to, even, kPanel * sizeof(State));
        } else {
          typename V::I a, b;
          V::ZipBf16(reinterpret_cast<const uint32_t*>(even), reinterpret_cast<const uint32_t*>(odd), &a, &b);
          typename V::F first, second;
          V::Unzip(V::AsFloat(a), V::AsFloat(b), &first, &second);
          V::Store(reinterpret_cast<float*>(to), first);
          V::Store(reinterpret_cast<float*>(to) + V::kLanes, second);
        }
        continue;
      }
      for (int i = 0; i < kPanel; ++i) {
        const State x = i < columns && t < tokens ? even[i] : State{};
        const State y = S::kPack == 2 && i < columns && t + 1 < tokens ? odd[i] : State{};
        to[i] = S::Unit(x, y);
      }
    }
  }
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_LINEAR_INL_H_
