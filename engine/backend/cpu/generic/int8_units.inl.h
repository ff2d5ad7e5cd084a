// Units of four integers of 8 bits, for products of rows that are rounded on the way with int8 weights.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_UNITS_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_UNITS_INL_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/generic/linear.inl.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/int8_weight.h"

namespace elserve::cpu {
namespace {

// A vector of sums of integers, as product.inl.h uses it.
template <class V>
struct IntVec {
  using F = typename V::I;
  using I = typename V::I;
  static constexpr int kLanes = V::kLanes;
  static F Zero() { return V::ZeroInts(); }
  static I LoadUnits(const uint32_t* p) { return V::LoadUnits(p); }
  static I Broadcast(const uint32_t* p) { return V::Broadcast(p); }
  static void Store(float* p, F x) { V::StoreUnits(reinterpret_cast<uint32_t*>(p), x); }
};

// Unsigned rows by signed weights (VNNI).
template <class V>
struct Int8Units : WholeUnits<IntVec<V>> {
  using Vec = IntVec<V>;
  using AsRows = Int8Units;
  static constexpr bool kWidens = false;
  static constexpr bool kIntegers = true;
  static constexpr int kPack = 4;
  static constexpr int kRows = kRegisterRows<V>;
  static typename V::I Dot(typename V::I sum, typename V::I a, typename V::I b) { return V::DotInt8(sum, a, b); }
};

// Lists the row's numbers beyond the limit, and says which is the greatest of the others.
template <class S>
__attribute__((noinline)) float TakeOutliers(const QuantizedRow& p, float limit) {
  float greatest = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    float x;
    FromState<S>(p.states + i * static_cast<int64_t>(sizeof(typename S::State)), 1, &x);
    if (std::abs(x) > limit && p.outliers->count < kMostOutliers) {
      p.outliers->columns[p.outliers->count] = static_cast<int32_t>(i);
      p.outliers->values[p.outliers->count++] = x;
    } else {
      greatest = std::abs(x) > greatest ? std::abs(x) : greatest;
    }
  }
  return greatest;
}

// Of the numbers of a row.
struct RowExtent {
  float greatest;  // of their magnitudes
  float sum;       // likewise
  float nothing;   // 0, or a NaN where one is among them: it has no integer
};

template <class S>
RowExtent ExtentOf(const std::byte* row, int64_t n) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  const auto* states = reinterpret_cast<const typename S::State*>(row);
  typename V::F most = V::Zero(), sum = V::Zero(), nothing = V::Zero();
  for (int64_t i = 0; i < n; i += L) {
    const typename V::F x = n - i >= L ? S::Load(states + i) : S::LoadN(states + i, static_cast<int>(n - i));
    most = V::Max(V::Abs(x), most);
    sum = V::Add(V::Abs(x), sum);
    nothing = V::Fma(x, V::Zero(), nothing);
  }
  return {.greatest = V::ReduceMax(most), .sum = V::ReduceAdd(sum), .nothing = V::ReduceAdd(nothing)};
}

// By which the greatest number becomes the greatest integer; `of_zeros` where all are zeros.
inline float ScaleOf(const RowExtent& extent, float of_zeros) {
  return (extent.greatest > kLeastInt8Scale ? extent.greatest / kMostInt8 : of_zeros) + extent.nothing;
}

// Integers of n numbers. kOffset: what is added to them.
template <class S, int kOffset>
void RoundRow(const std::byte* row, int64_t n, float scale, uint8_t* to) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  const auto* states = reinterpret_cast<const typename S::State*>(row);
  const typename V::F by = V::Set(1.0f / scale);
  const typename V::I offset = V::SetInts(kOffset);
  int64_t i = 0;
  for (; n - i >= L; i += L) {
    V::StoreBytes(to + i, V::AddInts(V::ToInts(V::Mul(S::Load(states + i), by)), offset));
  }
  if (i == n) return;
  uint8_t last[L];
  V::StoreBytes(last, V::AddInts(V::ToInts(V::Mul(S::LoadN(states + i, static_cast<int>(n - i)), by)), offset));
  std::memcpy(to + i, last, static_cast<size_t>(n - i));
}

// S: the states; kOffset: what is added to the integers.
template <class S, int kOffset>
void Quantize(const QuantizedRow& p) {
  RowExtent extent = ExtentOf<S>(p.states, p.n);
  p.outliers->count = 0;
  const float limit = kOutlierRatio * extent.sum / static_cast<float>(p.n);
  if (extent.greatest > limit) extent.greatest = TakeOutliers<S>(p, limit);
  *p.scale = ScaleOf(extent, /*of_zeros=*/1);
  auto* to = reinterpret_cast<uint8_t*>(p.units);
  RoundRow<S, kOffset>(p.states, p.n, *p.scale, to);
  for (int64_t i = p.n; i % 4 != 0; ++i) to[i] = 0;
  for (int o = 0; o < p.outliers->count; ++o) to[p.outliers->columns[o]] = kOffset;
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_UNITS_INL_H_
