// output = activation(input + bias) * factor + residual, [rows, cols]: what follows a product where cublasLt's own
// epilogue does not do it. Its GELU is the tanh formula alone, and it has none of the others, nor gates.
//
// Bound by memory: each value is read and written once, four at a time.
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/launch.cuh"
#include "engine/backend/cuda/state.cuh"

namespace elserve::cuda {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float Activated(Activation activation, float x) {
  switch (activation) {
    case Activation::kNone:
      break;
    case Activation::kRelu:
      return x < 0 ? 0.0f : x;
    case Activation::kGelu:
      return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case Activation::kGeluQuick:
      return x / (1 + expf(-1.702f * x));
    case Activation::kSilu:
      return x / (1 + expf(-x));
    case Activation::kTanh:
      return tanhf(x);
  }
  return x;
}

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) EpilogueKernel(EpilogueKernelArgs args) {
  const int64_t row = blockIdx.x;
  const int i = 4 * static_cast<int>(blockIdx.y * kThreads + threadIdx.x);
  if (i >= args.cols) return;
  const In* const input = static_cast<const In*>(args.input) + row * StrideOf<In>(args.factor_begin + args.cols) + i;
  float4 x = Load4(input);
  if (args.bias != nullptr) {
    x.x += args.bias[i];
    if (i + 1 < args.cols) x.y += args.bias[i + 1];
    if (i + 2 < args.cols) x.z += args.bias[i + 2];
    if (i + 3 < args.cols) x.w += args.bias[i + 3];
  }
  x = make_float4(Activated(args.activation, x.x), Activated(args.activation, x.y), Activated(args.activation, x.z),
                  Activated(args.activation, x.w));
  if (args.factor_begin > 0) {
    const float4 factor = Load4(input + args.factor_begin);
    x = make_float4(x.x * factor.x, x.y * factor.y, x.z * factor.z, x.w * factor.w);
  }
  if (args.residual != nullptr) {
    const float4 r = Load4(args.residual + row * StrideOf<float>(args.cols) + i);
    x = make_float4(x.x + r.x, x.y + r.y, x.z + r.z, x.w + r.w);
  }
  Store4(static_cast<Out*>(args.output) + row * StrideOf<Out>(args.cols) + i, x);
}

}  // namespace

cudaError_t LaunchEpilogue(const EpilogueKernelArgs& args, cudaStream_t stream) {
  auto kernel = EpilogueKernel<float, float>;
  if (args.output_type != DataType::kFloat32) {
    kernel =
        args.input_type == DataType::kFloat32 ? EpilogueKernel<float, BFloat16> : EpilogueKernel<BFloat16, BFloat16>;
  }
  return Launch(kernel, dim3(args.rows, CeilDiv(args.cols, 4 * kThreads)), dim3(kThreads), 0, stream, args);
}

}  // namespace elserve::cuda
