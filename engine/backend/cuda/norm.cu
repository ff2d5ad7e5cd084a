// LayerNorm: (x - mean) / sqrt(variance + epsilon) * gamma + beta; RMSNorm: x / sqrt(mean(x^2) + epsilon) * gamma.
// [rows, d] float32 -> states, and float32 where the residual wants the normed values.
//
// Bound by memory: 4 d bytes in, 2 to 8 d bytes out a row, which is read once: it waits in registers between the mean
// and the variance around it. A block a row, so that few rows spread over the device; sums run in a fixed order.
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/launch.cuh"
#include "engine/backend/cuda/state.cuh"

namespace elserve::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// The sum over the block, in every thread.
__device__ float BlockSum(float value, float* shared) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp];
  __syncthreads();
  return sum;
}

template <typename T>
__device__ __forceinline__ void Write(const NormKernelArgs& args, int64_t row, int i, float value) {
  const float beta = args.beta == nullptr ? 0.0f : args.beta[i];
  const float y = value * args.gamma[i] + beta;
  if (args.residual != nullptr) args.residual[row * StrideOf<float>(args.d) + i] = y;
  static_cast<T*>(args.state)[row * StrideOf<T>(args.d) + i] = FromFloat<T>(y);
}

// d is a multiple of 4 and at most 4 * kThreads * kFours.
template <typename T, int kFours>
__global__ void __launch_bounds__(kThreads) NormKernel(NormKernelArgs args) {
  float* const shared = StaticShared<float[kWarps]>();
  const int64_t row = blockIdx.x;
  const float* input = args.input + row * StrideOf<float>(args.d);
  float4 x[kFours];
  float sum = 0;
#pragma unroll
  for (int n = 0; n < kFours; ++n) {
    const int i = 4 * static_cast<int>(threadIdx.x + n * kThreads);
    x[n] = i < args.d ? Load4(input + i) : make_float4(0, 0, 0, 0);
    sum += (x[n].x + x[n].y) + (x[n].z + x[n].w);
  }
  const auto d = static_cast<float>(args.d);
  const float mean = args.kind == NormKind::kLayerNorm ? BlockSum(sum, shared) / d : 0.0f;
  float squares = 0;
#pragma unroll
  for (int n = 0; n < kFours; ++n) {
    if (4 * static_cast<int>(threadIdx.x + n * kThreads) >= args.d) continue;
    x[n] = make_float4(x[n].x - mean, x[n].y - mean, x[n].z - mean, x[n].w - mean);
    squares += (x[n].x * x[n].x + x[n].y * x[n].y) + (x[n].z * x[n].z + x[n].w * x[n].w);
  }
  const float inverse = 1.0f / sqrtf(BlockSum(squares, shared) / d + args.epsilon);
#pragma unroll
  for (int n = 0; n < kFours; ++n) {
    const int i = 4 * static_cast<int>(threadIdx.x + n * kThreads);
    if (i >= args.d) continue;
    const float4 gamma = Load4(args.gamma + i);
    const float4 beta = args.beta == nullptr ? make_float4(0, 0, 0, 0) : Load4(args.beta + i);
    const float4 y = make_float4(x[n].x * inverse * gamma.x + beta.x, x[n].y * inverse * gamma.y + beta.y,
                                 x[n].z * inverse * gamma.z + beta.z, x[n].w * inverse * gamma.w + beta.w);
    if (args.residual != nullptr) Store4(args.residual + row * StrideOf<float>(args.d) + i, y);
    Store4(static_cast<T*>(args.state) + row * StrideOf<T>(args.d) + i, y);
  }
}

// Any d; reads the row three times.
template <typename T>
__global__ void __launch_bounds__(kThreads) NormAnyKernel(NormKernelArgs args) {
  float* const shared = StaticShared<float[kWarps]>();
  const int64_t row = blockIdx.x;
  const float* input = args.input + row * StrideOf<float>(args.d);
  const auto d = static_cast<float>(args.d);
  float mean = 0;
  if (args.kind == NormKind::kLayerNorm) {
    float sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < args.d; i += kThreads) sum += input[i];
    mean = BlockSum(sum, shared) / d;
  }
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < args.d; i += kThreads) {
    squares += (input[i] - mean) * (input[i] - mean);
  }
  const float inverse = 1.0f / sqrtf(BlockSum(squares, shared) / d + args.epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < args.d; i += kThreads) {
    Write<T>(args, row, i, (input[i] - mean) * inverse);
  }
}

template <typename T>
cudaError_t LaunchTyped(const NormKernelArgs& args, cudaStream_t stream) {
  auto kernel = NormAnyKernel<T>;
  if (args.d % 4 == 0) {
    if (args.d <= 4 * kThreads) {
      kernel = NormKernel<T, 1>;
    } else if (args.d <= 8 * kThreads) {
      kernel = NormKernel<T, 2>;
    } else if (args.d <= 16 * kThreads) {
      kernel = NormKernel<T, 4>;
    } else if (args.d <= 32 * kThreads) {
      kernel = NormKernel<T, 8>;
    }
  }
  return Launch(kernel, dim3(args.rows), dim3(kThreads), 0, stream, args);
}

}  // namespace

cudaError_t LaunchNorm(const NormKernelArgs& args, cudaStream_t stream) {
  return args.type == DataType::kFloat32 ? LaunchTyped<float>(args, stream) : LaunchTyped<BFloat16>(args, stream);
}

}  // namespace elserve::cuda
