// The largest of many numbers, found without ordering them.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LARGEST_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LARGEST_INL_H_

#include <bit>
#include <cstdint>
#include <limits>

#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// A float as an integer of the same order, and back: a negative one counts from its end.
inline int32_t Ordered(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits < 0 ? std::numeric_limits<int32_t>::min() - bits : bits;
}
inline float FromOrdered(int32_t i) {
  return std::bit_cast<float>(i < 0 ? std::numeric_limits<int32_t>::min() - i : i);
}

// How many of n numbers, whole vectors, are at least `limit`.
template <class V>
int CountAtLeast(const float* x, int64_t n, float limit) {
  const typename V::F least = V::Set(limit);
  int count = 0;
  for (int64_t i = 0; i < n; i += V::kLanes) count += std::popcount(V::AtLeast(V::Load(x + i), least));
  return count;
}

// A limit that `count` of n numbers reach, the largest ones: n is whole vectors, and more than `count`. Of those that
// equal the limit only the first may be among them; the others become `other`. Where fewer than `count` are finite, all
// of these reach it. The search halves a range of values, which finds the limit of numbers as they mostly are in few
// steps, and after some steps a range of all the floats between, which ends whatever they are.
template <class V>
float LimitOfLargest(float* x, int64_t n, int count, float other) {
  constexpr int kStepsByValue = 16;
  const typename V::F finite = V::Set(std::numeric_limits<float>::lowest());
  typename V::F least = V::Zero(), most = V::Set(kMinusInfinity);
  for (int64_t i = 0; i < n; i += V::kLanes) {
    const typename V::F numbers = V::Load(x + i);
    most = V::Max(numbers, most);
    least = V::Min(V::WhereAtLeast(numbers, finite, numbers), least);
  }
  const float lowest = -V::ReduceMax(V::Sub(V::Zero(), least));
  if (CountAtLeast<V>(x, n, lowest) < count) return kMinusInfinity;
  // At least `count` numbers reach `low`, fewer `high`.
  int64_t low = Ordered(lowest), high = int64_t{Ordered(V::ReduceMax(most))} + 1;
  for (int step = 0; high - low > 1; ++step) {
    int64_t middle = low + (high - low) / 2;
    if (const float value = (FromOrdered(static_cast<int32_t>(low)) + FromOrdered(static_cast<int32_t>(high))) / 2;
        step < kStepsByValue && value > kMinusInfinity && value < std::numeric_limits<float>::infinity()) {
      middle = Ordered(value);
      middle = middle <= low ? low + 1 : middle >= high ? high - 1 : middle;
    }
    const float limit = FromOrdered(static_cast<int32_t>(middle));
    const int reach = CountAtLeast<V>(x, n, limit);
    if (reach == count) return limit;
    (reach > count ? low : high) = middle;
  }
  const float limit = FromOrdered(static_cast<int32_t>(low));
  for (int64_t i = n, more = CountAtLeast<V>(x, n, limit) - count; more > 0 && i-- > 0;) {
    if (x[i] == limit) x[i] = other, --more;
  }
  return limit;
}

template <class S>
void KeepLargest(const LargestRow& p) {
  using V = typename S::Vec;
  if (p.count >= p.n) return;
  const int64_t padded = RoundUp(p.n, kPageTokens);
  FromState<S>(p.states, p.n, p.scratch);
  for (int64_t i = p.n; i < padded; ++i) p.scratch[i] = kMinusInfinity;
  const typename V::F limit = V::Set(LimitOfLargest<V>(p.scratch, padded, p.count, 0));
  for (int64_t i = 0; i < padded; i += V::kLanes) {
    const typename V::F x = V::Load(p.scratch + i);
    V::Store(p.scratch + i, V::WhereAtLeast(x, limit, x));
  }
  ToState<S>(p.scratch, p.n, p.states);
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LARGEST_INL_H_
