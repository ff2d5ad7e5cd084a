// In a form that the compiler makes vectors of: rows are cut into kLanes columns, and what is left of the last one
// follows.
#include "engine/search/row_sums.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace elserve {
namespace {

constexpr size_t kLanes = 16;

inline float Exp(float x) {
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

// The value that comes before all others; `last`, which comes before none, of no values.
template <typename Before>
float FirstOf(std::span<const float> values, float last, Before before) {
  float lanes[kLanes];
  for (float& lane : lanes) lane = last;
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] = before(values[i + lane], lanes[lane]) ? values[i + lane] : lanes[lane];
    }
  }
  for (; i < values.size(); ++i) lanes[0] = before(values[i], lanes[0]) ? values[i] : lanes[0];
  return *std::min_element(lanes, lanes + kLanes, before);
}

}  // namespace

bool AllNumbers(std::span<const float> values) {
  constexpr float kGreatest = std::numeric_limits<float>::max();
  int bad[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) bad[lane] |= values[i + lane] <= kGreatest ? 0 : 1;
  }
  for (; i < values.size(); ++i) bad[0] |= values[i] <= kGreatest ? 0 : 1;
  return *std::max_element(bad, bad + kLanes) == 0;
}

float GreatestOf(std::span<const float> values) {
  return FirstOf(values, -std::numeric_limits<float>::infinity(), [](float a, float b) { return a > b; });
}

float LeastOf(std::span<const float> values) {
  return FirstOf(values, std::numeric_limits<float>::infinity(), [](float a, float b) { return a < b; });
}

float ExpOfNegative(float x) { return Exp(x); }

void ExpOfDifferences(std::span<const float> values, float greatest, std::vector<float>* out) {
  out->resize(values.size());
  float* const to = out->data();
  for (size_t i = 0; i < values.size(); ++i) to[i] = Exp(values[i] - greatest);
}

double SumOfExp(std::span<const float> values, float greatest) {
  constexpr size_t kBlock = 512;  // summed in float32
  double sum = 0;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const size_t end = std::min(begin + kBlock, values.size());
    float lanes[kLanes] = {};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += Exp(values[i + lane] - greatest);
    }
    for (; i < end; ++i) lanes[i % kLanes] += Exp(values[i] - greatest);
    for (const float lane : lanes) sum += lane;
  }
  return sum;
}

double SumOf(std::span<const float> values) {
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += values[i + lane];
  }
  for (; i < values.size(); ++i) lanes[0] += values[i];
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace elserve
