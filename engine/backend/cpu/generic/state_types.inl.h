// The state types over a vector type V: how states are stored, and the dot of two units.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_STATE_TYPES_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_STATE_TYPES_INL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace elserve::cpu {
namespace {

// Rows that a product holds in registers beside its two vectors of columns.
template <class V>
inline constexpr int kRegisterRows = V::kLanes == 16 ? 12 : 6;

// A product takes a unit in kHalves steps: each multiplies one number of 32 bits of A, for all lanes, by what Half
// makes of the units of B. Here in one, as they are.
template <class V>
struct WholeUnits {
  static constexpr int kHalves = 1;
  template <int>
  static typename V::I Half(typename V::I b) {
    return b;
  }
};

// kRows: rows of a product with a panel. kIntegers: sums are of integers (int8_units.inl.h). Dot: sum + the product of
// a step. kWidens: products are made of float32, so states are widened on the way: A always, once, and B either once,
// or as AsRows takes it from memory. Wide is the state type of what was widened, AsRows::Number that of A. The sums
// have the same order, so the same bits, either way.
template <class V>
struct Float32State : WholeUnits<V> {
  using Vec = V;
  using State = float;
  using AsRows = Float32State;
  using Number = Float32State;
  using Wide = Float32State;
  static constexpr bool kWidens = false;
  static constexpr bool kIntegers = false;
  static constexpr int kPack = 1;
  static constexpr int kRows = kRegisterRows<V>;
  static typename V::F Dot(typename V::F sum, typename V::I a, typename V::I b) {
    return V::Fma(V::AsFloat(a), V::AsFloat(b), sum);
  }
  static typename V::F Load(const State* p) { return V::Load(p); }
  static typename V::F LoadN(const State* p, int n) { return V::LoadN(p, n); }
  static void Store(State* p, typename V::F x) { V::Store(p, x); }
  static void StoreN(State* p, typename V::F x, int n) { V::StoreN(p, x, n); }
  // One row (the second is the same) as two vectors of units, and back.
  static void Zip(const uint32_t* row, const uint32_t*, typename V::I* a, typename V::I* b) {
    *a = V::LoadUnits(row);
    *b = V::LoadUnits(row + V::kLanes);
  }
  static void Unzip(typename V::F a, typename V::F b, typename V::F* first, typename V::F* second) {
    *first = a;
    *second = b;
  }
  static uint32_t Unit(State even, State) {
    uint32_t unit;
    std::memcpy(&unit, &even, sizeof(unit));
    return unit;
  }
};

template <class V>
struct Bf16State : WholeUnits<V> {
  using Vec = V;
  using State = uint16_t;
  static constexpr bool kIntegers = false;
  static constexpr int kPack = 2;
  static constexpr int kRows = kRegisterRows<V>;
  static typename V::F Load(const State* p) { return V::LoadBf16(p); }
  static typename V::F LoadN(const State* p, int n) { return V::LoadBf16N(p, n); }
  static void Store(State* p, typename V::F x) { V::StoreBf16(p, x); }
  static void StoreN(State* p, typename V::F x, int n) { V::StoreBf16N(p, x, n); }
  static uint32_t Unit(State even, State odd) { return even | static_cast<uint32_t>(odd) << 16; }
};

// Units of bfloat16 as B by rows of A that were widened: first the even numbers, then the odd ones, so that the sums
// leave registers for both operands.
template <class V>
struct WidenedRows : Bf16State<V> {
  using Number = Float32State<V>;
  static constexpr int kHalves = 2;
  template <int half>
  static typename V::F Half(typename V::I b) {
    return half == 0 ? V::Even(b) : V::Odd(b);
  }
  static typename V::F Dot(typename V::F sum, typename V::I a, typename V::F b) {
    return V::Fma(V::AsFloat(a), b, sum);
  }
};

// bfloat16 by float32 multiplications.
template <class V>
struct WideBf16State : Bf16State<V> {
  using AsRows = WidenedRows<V>;
  using Wide = Float32State<V>;
  static constexpr bool kWidens = true;
};

// Whether a product whose rows are cut into so many parts widens B once, for all of them: storing what was widened, and
// loading twice as much, takes about as many instructions as widening for two parts in registers.
template <class S>
constexpr bool WidensB(int parts) {
  return S::kWidens && parts >= 3;
}

// Calls f.template operator()<P>(): P is the state type of a product of widened rows with B as it is, or widened too.
template <class S, class F>
__attribute__((always_inline)) inline void WithProduct(bool widened, F&& f) {
  if constexpr (S::kWidens) {
    if (widened) return f.template operator()<typename S::Wide>();
  }
  f.template operator()<typename S::AsRows>();
}

// Units of panels, keys or values -> float32: `vectors` of units, two of which make a row.
template <class V>
void WidenUnits(const uint32_t* in, int64_t vectors, float* out) {
  constexpr int L = V::kLanes;
  for (int64_t i = 0; i < vectors; i += 2) {
    const typename V::I a = V::LoadUnits(in + i * L), b = V::LoadUnits(in + (i + 1) * L);
    V::Store(out + 2 * i * L, V::Even(a));
    V::Store(out + (2 * i + 1) * L, V::Even(b));
    V::Store(out + (2 * i + 2) * L, V::Odd(a));
    V::Store(out + (2 * i + 3) * L, V::Odd(b));
  }
}

// n float32 numbers -> states, and back.
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

// n states as S::Wide: where they stand, or in `wide`.
template <class S>
const uint32_t* AsWide(const uint32_t* states, int64_t n, float* wide) {
  if (!S::kWidens) return states;
  FromState<S>(reinterpret_cast<const std::byte*>(states), n, wide);
  return reinterpret_cast<const uint32_t*>(wide);
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_STATE_TYPES_INL_H_
