// States (float or bfloat16) as floats, one by one and four at a time. Rows of all tensors have room for whole fours.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_STATE_CUH_
#define ELSERVE_ENGINE_BACKEND_CUDA_STATE_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "engine/backend/cuda/ptx.cuh"

namespace elserve::cuda {

using BFloat16 = __nv_bfloat16;

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(BFloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ __forceinline__ T FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ BFloat16 FromFloat<BFloat16>(float value) {
  return __float2bfloat16_rn(value);
}

__device__ __forceinline__ float4 Load4(const float* at) { return *reinterpret_cast<const float4*>(at); }
__device__ __forceinline__ float4 Load4(const BFloat16* at) {
  const uint2 packed = *reinterpret_cast<const uint2*>(at);
  return make_float4(__uint_as_float(packed.x << 16), __uint_as_float(packed.x & 0xffff0000u),
                     __uint_as_float(packed.y << 16), __uint_as_float(packed.y & 0xffff0000u));
}
__device__ __forceinline__ void Store4(float* at, float4 v) { *reinterpret_cast<float4*>(at) = v; }
__device__ __forceinline__ void Store4(BFloat16* at, float4 v) {
  *reinterpret_cast<uint2*>(at) = make_uint2(PackBFloat16(v.x, v.y), PackBFloat16(v.z, v.w));
}

__device__ __forceinline__ float MinusInfinity() { return -__uint_as_float(0x7f800000u); }

// RowStride of kernels.h.
template <typename T>
__host__ __device__ constexpr int64_t StrideOf(int64_t cols) {
  constexpr int64_t kUnit = 16 / static_cast<int64_t>(sizeof(T));
  return (cols + kUnit - 1) / kUnit * kUnit;
}

__host__ __device__ constexpr int CeilDiv(int n, int by) { return (n + by - 1) / by; }

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_STATE_CUH_
