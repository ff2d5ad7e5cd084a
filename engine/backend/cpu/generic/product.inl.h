// The one matrix product of the cpu backend, in registers: MR rows of A by NV vectors of columns of B.
//
//   C[m, n] = sum over units u of dot(A[m, u], B[u, n])
//
// A is read by broadcast, at a + m * row_stride + u * unit_stride (numbers of 32 bits); B by vectors through a loader.
// Linear, the scores and the weighted sums of all attention forms are this product with different strides and loaders.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PRODUCT_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PRODUCT_INL_H_

#include <cstdint>

namespace elserve::cpu {
namespace {

// B as packed panels: [panel][units][panel columns]; two vectors a panel.
template <class S>
struct PanelColumns {
  using V = typename S::Vec;
  const uint32_t* panel;
  int64_t panel_units;  // from a panel to the next
  // Asks for what is read kAhead units later: while few rows are multiplied, their arithmetic and the processor's own
  // fetching take turns otherwise.
  template <int NV>
  void Fetch(int64_t u) const {
    constexpr int kPanel = 2 * V::kLanes, kLine = 16, kAhead = 16;
#pragma GCC unroll 4
    for (int n = 0; n < NV / 2; ++n) {
      const uint32_t* at = panel + n * panel_units + (u + kAhead) * kPanel;
#pragma GCC unroll 2
      for (int i = 0; i < kPanel; i += kLine) __builtin_prefetch(at + i);
    }
  }
  template <int NV>
  void Load(int64_t u, typename V::I* b) const {
    constexpr int kPanel = 2 * V::kLanes;
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n) b[n] = V::LoadUnits(panel + (n / 2) * panel_units + u * kPanel + (n % 2) * V::kLanes);
  }
};

// B as one packed matrix of NV vectors a unit.
template <class S>
struct QueryColumns {
  using V = typename S::Vec;
  const uint32_t* queries;
  int64_t stride;  // units from a row of B to the next
  template <int NV>
  void Fetch(int64_t) const {}
  template <int NV>
  void Load(int64_t u, typename V::I* b) const {
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n) b[n] = V::LoadUnits(queries + u * stride + n * V::kLanes);
  }
};

// B as rows of states, kPack of them zipped into units on the way: for bfloat16 the columns of two vectors come out in
// ZipBf16's order.
template <class S>
struct RowColumns {
  using V = typename S::Vec;
  const uint32_t* rows;
  int64_t stride;  // units from a row to the next
  template <int NV>
  void Fetch(int64_t) const {}
  template <int NV>
  void Load(int64_t u, typename V::I* b) const {
    static_assert(NV == 2);
    const uint32_t* row = rows + S::kPack * u * stride;
    S::Zip(row, row + stride, &b[0], &b[1]);
  }
};

template <class S, int MR, int NV>
__attribute__((always_inline)) inline void Clear(typename S::Vec::F (&c)[MR][NV]) {
#pragma GCC unroll 32
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n) c[m][n] = S::Vec::Zero();
  }
}

// c += the product of one step of a unit.
template <class S, int half, int MR, int NV, class Columns>
__attribute__((always_inline)) inline void ProductStep(int64_t u, const uint32_t* a, int64_t row_stride,
                                                       const Columns& columns, typename S::Vec::F (&c)[MR][NV]) {
  using V = typename S::Vec;
  typename V::I units[NV];
  columns.template Load<NV>(u, units);
  decltype(S::template Half<half>(units[0])) b[NV];
#pragma GCC unroll 8
  for (int n = 0; n < NV; ++n) b[n] = S::template Half<half>(units[n]);
#pragma GCC unroll 32
  for (int m = 0; m < MR; ++m) {
    const typename V::I x = V::Broadcast(a + m * row_stride + half);
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n) c[m][n] = S::Dot(c[m][n], x, b[n]);
  }
}

// c += product.
template <class S, int MR, int NV, class Columns>
__attribute__((always_inline)) inline void Product(int64_t units, const uint32_t* a, int64_t row_stride,
                                                   int64_t unit_stride, const Columns& columns,
                                                   typename S::Vec::F (&c)[MR][NV]) {
  for (int64_t u = 0; u < units; ++u) {
    const uint32_t* at = a + u * unit_stride;
    if constexpr (MR > 1) columns.template Fetch<NV>(u);  // one row's arithmetic is over before a line is there
    ProductStep<S, 0>(u, at, row_stride, columns, c);
    if constexpr (S::kHalves == 2) ProductStep<S, 1>(u, at, row_stride, columns, c);
  }
}

// C (float32, row stride ldc) = product.
template <class S, int MR, int NV, class Columns>
void StoreProduct(int64_t units, const uint32_t* a, int64_t row_stride, int64_t unit_stride, const Columns& columns,
                  float* out, int64_t ldc) {
  using V = typename S::Vec;
  typename V::F c[MR][NV];
  Clear<S>(c);
  Product<S, MR, NV>(units, a, row_stride, unit_stride, columns, c);
#pragma GCC unroll 32
  for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n) V::Store(out + m * ldc + n * V::kLanes, c[m][n]);
  }
}

// C[m] = C[m] * scale[m] + product: the online softmax's weighted sum over a strip's pages. Page p has units(p) units,
// its B is columns(p), and its A stands a_page units after that of the page before.
template <class S, int MR, int NV, class Units, class Columns>
void AddProduct(int pages, const Units& units, const uint32_t* a, int64_t a_page, int64_t row_stride,
                int64_t unit_stride, const Columns& columns, float* out, int64_t ldc, const float* scale) {
  using V = typename S::Vec;
  typename V::F c[MR][NV];
  Clear<S>(c);
  for (int page = 0; page < pages; ++page) {
    Product<S, MR, NV>(units(page), a + page * a_page, row_stride, unit_stride, columns(page), c);
  }
#pragma GCC unroll 32
  for (int m = 0; m < MR; ++m) {
    const typename V::F s = V::Set(scale[m]);
#pragma GCC unroll 8
    for (int n = 0; n < NV; ++n) {
      float* to = out + m * ldc + n * V::kLanes;
      V::Store(to, V::Fma(V::Load(to), s, c[m][n]));
    }
  }
}

// Calls f.template operator()<MR>() with MR = rows in [1, Max].
template <int Max, class F>
__attribute__((always_inline)) inline void WithRows(int rows, F&& f) {
  if constexpr (Max > 1) {
    if (rows < Max) return WithRows<Max - 1>(rows, f);
  }
  f.template operator()<Max>();
}

// out [rows, ldc] = product of up to S::kRows rows with NV / 2 panels, panel_units from each other.
template <class S, int NV>
void StorePanels(int rows, int64_t units, const uint32_t* a, int64_t row_stride, const uint32_t* panel,
                 int64_t panel_units, float* out, int64_t ldc) {
  WithRows<2 * S::kRows / NV>(rows, [&]<int MR>() {
    StoreProduct<S, MR, NV>(units, a, row_stride, S::kHalves, PanelColumns<S>{panel, panel_units}, out, ldc);
  });
}

// out[m] = out[m] * scale[m] + products of up to S::kRows rows with a panel of each page: A of a page follows that of
// the page before.
template <class S, class Panel>
void AddPanels(int rows, int pages, int64_t units, const uint32_t* a, int64_t row_stride, const Panel& panel,
               float* out, int64_t ldc, const float* scale) {
  WithRows<S::kRows>(rows, [&]<int MR>() {
    AddProduct<S, MR, 2>(
        pages, [units](int) { return units; }, a, units * S::kHalves, row_stride, S::kHalves,
        [&panel](int page) {
          return PanelColumns<S>{panel(page), 0};
        },
        out, ldc, scale);
  });
}

// Cuts `rows` into the fewest parts of at most `most`, as even as can be: a part's first row is part * rows / parts.
inline int Parts(int rows, int most) { return (rows + most - 1) / most; }

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_PRODUCT_INL_H_
