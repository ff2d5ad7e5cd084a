// Linear: a product with packed weights, and what follows it.
//
// A task has some rows and some panels. For each panel (which streams from the second-level cache) the rows are cut
// into even parts of at most S::kRows, the product's registers. bfloat16 rows that are multiplied as float32 are
// widened once, for all panels.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LINEAR_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LINEAR_INL_H_

#include <cstdint>

#include "engine/backend/cpu/generic/logit_epilogue.inl.h"
#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/generic/product.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// A panel: [units][panel columns], the rows turned.
template <class S>
void PackPanel(const uint32_t* rows, int64_t units, uint32_t* panel) {
  constexpr int kPanel = 2 * S::Vec::kLanes;
  for (int column = 0; column < kPanel; ++column) {
    for (int64_t u = 0; u < units; ++u) panel[u * kPanel + column] = rows[column * units + u];
  }
}

// Some rows' sums of some panels, [rows, stride], and the panels' bias.
struct PanelSums {
  const float* sums;
  int64_t stride;
  const float* bias;
  const float* up = nullptr;  // of a gated product: the up columns' sums and bias
  const float* up_bias = nullptr;
};

// activation(sums + bias), times up + its bias where there is one, + residual -> out, for columns [begin, begin +
// width) of the product.
template <class S, bool kGated>
void FinishLinear(const LinearBlock& b, const PanelSums& p, int row, int rows, int64_t begin, int64_t width) {
  using V = typename S::Vec;
  for (int m = 0; m < rows; ++m) {
    const float* from = p.sums + m * p.stride;
    const float* residual = b.residual ? b.residual + (row + m) * b.residual_stride + begin : nullptr;
    for (int64_t i = 0; i < width; i += V::kLanes) {
      typename V::F x = V::Add(V::Load(from + i), V::Load(p.bias + i));
      x = Activate<V, S::kPack == 1>(b.activation, x);
      if constexpr (kGated) x = V::Mul(x, V::Add(V::Load(p.up + m * p.stride + i), V::Load(p.up_bias + i)));
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

// Some rows' sums of integers of some panels: [rows, width].
struct IntegerSums {
  float* sums;
  int row, rows;  // of the block
  int64_t width;  // whole panels'
  int64_t panel;  // the first one, as they are stored
};

// Sums of integers -> of numbers, in their place. units(panel, u, i): unit u of the columns of vector i of a stored
// panel.
template <class V, class Units>
void Dequantize(const LinearBlock& b, const IntegerSums& p, const Units& units) {
  constexpr int kPanel = 2 * V::kLanes;
  for (int m = 0; m < p.rows; ++m) {
    const int64_t row = (p.row + m) * b.row_stride;
    const typename V::F scale = V::Set(b.row_scales[row]);
    const RowOutliers& outliers = b.outliers[row];
    for (int64_t i = 0; i < p.width; i += V::kLanes) {
      float* const at = p.sums + m * p.width + i;
      const int64_t column = p.panel * kPanel + i;
      const typename V::I sum = V::SubInts(V::LoadUnits(reinterpret_cast<const uint32_t*>(at)),
                                           V::LoadUnits(reinterpret_cast<const uint32_t*>(b.offsets + column)));
      const typename V::F column_scale = V::Load(b.column_scales + column);
      typename V::F x = V::Mul(V::FromInts(sum), V::Mul(scale, column_scale));
      for (int o = 0; o < outliers.count; ++o) [[unlikely]] {
          const int32_t k = outliers.columns[o];
          const typename V::I four = V::LoadUnits(units(p.panel + i / kPanel, k / 4, i % kPanel / V::kLanes));
          const typename V::F weight = V::Mul(V::FromInts(V::SignedByte(four, k % 4)), column_scale);
          x = V::Fma(V::Set(outliers.values[o]), weight, x);
        }
      V::Store(at, x);
    }
  }
}

// By panels as PackPanel lays them.
template <class V>
void DequantizePanels(const LinearBlock& b, const IntegerSums& p) {
  constexpr int kPanel = 2 * V::kLanes;
  Dequantize<V>(b, p, [&b](int64_t panel, int64_t u, int64_t vector) {
    return b.panels + (panel * b.units + u) * kPanel + vector * V::kLanes;
  });
}

// NV / 2 panels, as the product with `parts` parts of rows reads them. `place`: where they stand once they are widened,
// of two.
template <class S, int NV>
class Columns {
 public:
  Columns(const LinearBlock& b, const uint32_t* panels, int parts, int place)
      : b_(b), panels_(panels), widened_(WidensB<S>(parts)) {
    if constexpr (S::kWidens) {
      if (!widened_) return;
      uint32_t* wide = b.wide + (b.rows + place * 2 * S::Vec::kLanes) * b.a_stride;
      WidenUnits<typename S::Vec>(panels, NV * b.units, reinterpret_cast<float*>(wide));
      panels_ = wide;
    }
  }

  // sums [rows, NV vectors] = the products of rows [row, row + rows).
  void Multiply(int row, int rows, float* sums) const {
    WithProduct<S>(widened_, [&]<class P>() {
      const int64_t units = b_.units * S::kPack / P::kPack;
      StorePanels<P, NV>(rows, units, b_.a + row * b_.a_stride, b_.a_stride, panels_, units * 2 * S::Vec::kLanes, sums,
                         NV * S::Vec::kLanes);
    });
  }

 private:
  const LinearBlock& b_;
  const uint32_t* panels_;
  const bool widened_;
};

// Panels [panel, panel + NV / 2) for all rows of the block. The sums go to `logits` where the block has logits. M: what
// is multiplied, S itself or integers.
template <class S, class M, int NV>
void LinearPanels(const LinearBlock& b, int panel, const LogitEpilogue<S>& logits) {
  using V = typename S::Vec;
  constexpr int kMost = 2 * M::kRows / NV;
  constexpr int64_t kWidth = NV * V::kLanes, kPanel = 2 * V::kLanes;
  alignas(64) float sums[kMost * kWidth];
  const int64_t begin = static_cast<int64_t>(panel) * kPanel;
  const int64_t width = b.cols - begin < kWidth ? b.cols - begin : kWidth;
  const int parts = Parts(b.rows, kMost);
  const Columns<M, NV> columns(b, b.panels + panel * b.units * kPanel, parts, 0);
  for (int part = 0; part < parts; ++part) {
    const int row = part * b.rows / parts, rows = (part + 1) * b.rows / parts - row;
    columns.Multiply(row, rows, sums);
    if constexpr (M::kIntegers)
      DequantizePanels<V>(b, {.sums = sums, .row = row, .rows = rows, .width = kWidth, .panel = panel});
    if (b.logits == nullptr) {
      FinishLinear<S, false>(b, {.sums = sums, .stride = kWidth, .bias = b.bias + begin}, row, rows, begin, width);
      continue;
    }
    for (int i = 0; i < NV / 2; ++i) {
      logits.Take({.sums = sums + i * kPanel, .stride = kWidth, .row = row, .rows = rows, .panel = panel + i});
    }
  }
}

// One panel of a gated product: its gate columns, then its up columns.
template <class S, class M>
void GatedPanel(const LinearBlock& b, int panel) {
  constexpr int64_t kWidth = 2 * S::Vec::kLanes;
  alignas(64) float gate[M::kRows * kWidth], up[M::kRows * kWidth];
  const int64_t panel_units = b.units * kWidth, begin = panel * kWidth;
  const int64_t width = b.cols - begin < kWidth ? b.cols - begin : kWidth;
  const int parts = Parts(b.rows, M::kRows);
  const uint32_t* panels = b.panels + 2 * panel * panel_units;
  const Columns<M, 2> gates(b, panels, parts, 0), ups(b, panels + panel_units, parts, 1);
  const float* bias = b.bias + 2 * begin;
  for (int part = 0; part < parts; ++part) {
    const int row = part * b.rows / parts, rows = (part + 1) * b.rows / parts - row;
    gates.Multiply(row, rows, gate);
    ups.Multiply(row, rows, up);
    if constexpr (M::kIntegers) {
      const int64_t stored = 2 * int64_t{panel};
      using V = typename S::Vec;
      DequantizePanels<V>(b, {.sums = gate, .row = row, .rows = rows, .width = kWidth, .panel = stored});
      DequantizePanels<V>(b, {.sums = up, .row = row, .rows = rows, .width = kWidth, .panel = stored + 1});
    }
    FinishLinear<S, true>(b, {.sums = gate, .stride = kWidth, .bias = bias, .up = up, .up_bias = bias + kWidth}, row,
                          rows, begin, width);
  }
}

// Numbers of 32 bits that `rows` rows of `units`, and two panels, have once they are widened; none where they are read
// as they are.
template <class S>
constexpr int64_t WideNumbers(int64_t rows, int64_t units) {
  return S::kWidens ? (rows + 4 * S::Vec::kLanes) * units * S::kPack : 0;
}

template <class S, class M = S>
void Linear(const LinearBlock& states) {
  LinearBlock b = states;
  if (M::kWidens) {
    b.a = states.wide;
    b.a_stride = b.units * S::kPack;
    for (int row = 0; row < b.rows; ++row) {
      FromState<S>(reinterpret_cast<const std::byte*>(states.a + row * states.a_stride), b.units * S::kPack,
                   reinterpret_cast<float*>(states.wide + row * b.a_stride));
    }
  }
  const LogitEpilogue<S> logits(b);
  if (b.logits) logits.Begin();
  // Few rows leave registers idle: two panels at once keep as many sums going.
  int panel = b.panel_begin;
  if (b.gated) {
    for (; panel < b.panel_end; ++panel) GatedPanel<S, M>(b, panel);
  }
  if (b.rows <= M::kRows / 2) {
    for (; panel + 2 <= b.panel_end; panel += 2) LinearPanels<S, M, 4>(b, panel, logits);
  }
  for (; panel < b.panel_end; ++panel) LinearPanels<S, M, 2>(b, panel, logits);
  if (b.logits) logits.End();
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LINEAR_INL_H_
