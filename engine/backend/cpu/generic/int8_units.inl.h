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

// Below it a row is as good as zero.
inline constexpr float kLeastScale = 1e-30f;

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

// S: the states; kOffset: what is added to the integers.
template <class S, int kOffset>
void Quantize(const QuantizedRow& p) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  const auto* states = reinterpret_cast<const typename S::State*>(p.states);
  const auto load = [&](int64_t i) {
    return p.n - i >= L ? S::Load(states + i) : S::LoadN(states + i, static_cast<int>(p.n - i));
  };
  typename V::F most = V::Zero(), nothing = V::Zero(), squares = V::Zero();
  for (int64_t i = 0; i < p.n; i += L) {
    const typename V::F x = load(i);
    most = V::Max(V::Abs(x), most);
    squares = V::Fma(x, x, squares);
    nothing = V::Fma(x, V::Zero(), nothing);  // but for a NaN, which has no integer
  }
  float greatest = V::ReduceMax(most);
  p.outliers->count = 0;
  const float limit = kOutlierRatio * std::sqrt(V::ReduceAdd(squares) / static_cast<float>(p.n));
  if (greatest > limit) greatest = TakeOutliers<S>(p, limit);
  // Of a row of zeros any.
  *p.scale = (greatest > kLeastScale ? greatest : kMostInt8) / kMostInt8 + V::ReduceAdd(nothing);
  const typename V::F by = V::Set(1.0f / *p.scale);
  const typename V::I offset = V::SetInts(kOffset);
  auto* to = reinterpret_cast<uint8_t*>(p.units);
  for (int64_t i = 0; i < p.n; i += L) {
    const typename V::I integers = V::AddInts(V::ToInts(V::Mul(load(i), by)), offset);
    if (p.n - i >= L) {
      V::StoreBytes(to + i, integers);
      continue;
    }
    uint8_t last[L];
    V::StoreBytes(last, integers);
    std::memcpy(to + i, last, static_cast<size_t>(p.n - i));
  }
  for (int64_t i = p.n; i % 4 != 0; ++i) to[i] = 0;
  for (int o = 0; o < p.outliers->count; ++o) to[p.outliers->columns[o]] = kOffset;
}

template <class S>
constexpr Int8Kernels Int8TableOf(const char* name) {
  using M = Int8Units<typename S::Vec>;
  return {.name = name,
          .panel = 2 * S::Vec::kLanes,
          .unit_step = 1,
          .offset = 128,
          .linear = &Linear<S, M>,
          .pack_panel = &PackPanel<S>,
          .quantize = &Quantize<S, 128>};
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_UNITS_INL_H_
