// How a weight becomes int8, the same on every backend.
#ifndef ELSERVE_ENGINE_BACKEND_INT8_WEIGHT_H_
#define ELSERVE_ENGINE_BACKEND_INT8_WEIGHT_H_

#include <cstdint>
#include <span>

namespace elserve {

// The greatest integer that a number becomes, and minus that the least: symmetric, so that there is no zero point.
inline constexpr float kMostInt8 = 127;

// Numbers whose greatest is not above this are as good as zeros, and have any scale.
inline constexpr float kLeastInt8Scale = 1e-30f;

// A row's numbers beyond so many times its mean magnitude are not among its integers, which would have few digits left
// for all the others: they are multiplied by themselves, in float32. Up to so many of them, the first. (One number that
// is far above n others is no more than sqrt(n) times their common root mean square, and n times their mean.)
inline constexpr float kOutlierRatio = 20;
inline constexpr int kMostOutliers = 8;

// A weight's numbers for one output become integers: number i is about the scale, which is returned, times integers[i].
// Of some scales that clip the largest numbers, and of the one that clips none, it is the one with the least mean
// squared error: outliers among thousands of numbers would cost all others their digits. Of zeros any.
float QuantizeToInt8(std::span<const float> numbers, std::span<int8_t> integers);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_BACKEND_INT8_WEIGHT_H_
