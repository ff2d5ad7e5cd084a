// Loops over whole rows, in a form that the compiler makes vectors of.
#ifndef ELSERVE_ENGINE_SEARCH_ROW_SUMS_H_
#define ELSERVE_ENGINE_SEARCH_ROW_SUMS_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace elserve {

// exp(x) for x of 0 or less, to 2e-7 of it; 0 where it would be no normal number, as for -infinity.
inline float ExpOfNegative(float x) {
  constexpr float kLeast = -87.0f;
  const float bounded = x > kLeast ? x : kLeast;
  // exp(x) = 2^n * exp(r), n the nearest integer to x / log 2 (adding and subtracting 1.5 * 2^23 rounds to it).
  const float n = (bounded * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x > kLeast ? p * power : 0.0f;
}

// -infinity of no values. None may be NaN.
inline float GreatestOf(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes];
  for (float& lane : lanes) lane = -std::numeric_limits<float>::infinity();
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = values[i + lane] > lanes[lane] ? values[i + lane] : lanes[lane];
    }
  }
  for (; i < values.size(); ++i) lanes[0] = values[i] > lanes[0] ? values[i] : lanes[0];
  for (const float lane : lanes) lanes[0] = lane > lanes[0] ? lane : lanes[0];
  return lanes[0];
}

// The sum of exp(x - greatest). The order of its terms is fixed by their number.
inline double SumOfExp(std::span<const float> values, float greatest) {
  constexpr size_t kBlock = 512, kLanes = 16;
  double sum = 0;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const size_t end = begin + kBlock < values.size() ? begin + kBlock : values.size();
    float lanes[kLanes] = {};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += ExpOfNegative(values[i + lane] - greatest);
    }
    for (; i < end; ++i) lanes[i % kLanes] += ExpOfNegative(values[i] - greatest);
    for (const float lane : lanes) sum += lane;
  }
  return sum;
}

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_ROW_SUMS_H_
