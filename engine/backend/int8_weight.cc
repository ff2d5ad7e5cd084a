#include "engine/backend/int8_weight.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace elserve {
namespace {

// What the largest number is clipped to, by itself.
constexpr float kClips[] = {1.0f, 0.95f, 0.9f, 0.85f, 0.8f, 0.75f, 0.7f, 0.65f, 0.6f, 0.55f, 0.5f};

// To the nearest integer, ties to even, for |x| < 2^22: an addition that leaves no bit for a fraction.
inline float Round(float x) {
  constexpr float kNoFraction = 0x1.8p23f;
  return (x + kNoFraction) - kNoFraction;
}

inline float Integer(float x, float by) { return std::clamp(Round(x * by), -kMostInt8, kMostInt8); }

float SquaredError(std::span<const float> numbers, float scale) {
  const float by = 1 / scale;
  // Sums side by side, which a compiler may make in a vector.
  constexpr size_t kSums = 16;
  float sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= numbers.size(); i += kSums) {
    for (size_t j = 0; j < kSums; ++j) {
      const float error = numbers[i + j] - scale * Integer(numbers[i + j], by);
      sums[j] += error * error;
    }
  }
  float sum = 0;
  for (; i < numbers.size(); ++i) {
    const float error = numbers[i] - scale * Integer(numbers[i], by);
    sum += error * error;
  }
  for (const float part : sums) sum += part;
  return sum;
}

}  // namespace

float QuantizeToInt8(std::span<const float> numbers, std::span<int8_t> integers) {
  float greatest = 0;
  for (const float x : numbers) greatest = std::max(greatest, std::abs(x));
  float scale = 1, least = std::numeric_limits<float>::infinity();
  for (const float clip : kClips) {
    if (!(greatest > kLeastInt8Scale)) break;
    const float candidate = greatest * clip / kMostInt8;
    const float error = SquaredError(numbers, candidate);
    if (error < least) least = error, scale = candidate;
  }
  const float by = 1 / scale;
  for (size_t i = 0; i < numbers.size(); ++i) integers[i] = static_cast<int8_t>(Integer(numbers[i], by));
  return scale;
}

}  // namespace elserve
