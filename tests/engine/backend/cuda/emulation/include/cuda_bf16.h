// bfloat16 as the kernels use it: stored, and changed from and to float.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_INCLUDE_CUDA_BF16_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_INCLUDE_CUDA_BF16_H_

#include <bit>
#include <cstdint>

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

// To the nearest, ties to even; every NaN is 0x7fff, as the device makes it.
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_INCLUDE_CUDA_BF16_H_
