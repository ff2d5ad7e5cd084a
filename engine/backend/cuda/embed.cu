// x[p] = tokens[id[p]] * scale + places[place[p] + offset]; [rows, d] float32.
//
// A gather: rows * d * (2 table values + 4 bytes) move and nothing is computed; bound by latency, a block a row.
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/launch.cuh"
#include "engine/backend/cuda/state.cuh"

namespace elserve::cuda {
namespace {

constexpr int kThreads = 128;

template <typename T>
__global__ void __launch_bounds__(kThreads) EmbedKernel(EmbedKernelArgs args) {
  const int64_t row = blockIdx.x;
  const T* token = static_cast<const T*>(args.tokens) + args.ids[row] * StrideOf<T>(args.d);
  const T* place = args.places == nullptr ? nullptr
                                          : static_cast<const T*>(args.places) +
                                                (args.place_ids[row] + args.place_offset) * StrideOf<T>(args.d);
  float* output = args.output + row * StrideOf<float>(args.d);
  for (int i = 4 * static_cast<int>(threadIdx.x); i < args.d; i += 4 * kThreads) {
    float4 x = Load4(token + i);
    // Two roundings, as the reference's: no fused multiply-add.
    x = make_float4(__fmul_rn(x.x, args.scale), __fmul_rn(x.y, args.scale), __fmul_rn(x.z, args.scale),
                    __fmul_rn(x.w, args.scale));
    if (place != nullptr) {
      const float4 y = Load4(place + i);
      x = make_float4(__fadd_rn(x.x, y.x), __fadd_rn(x.y, y.y), __fadd_rn(x.z, y.z), __fadd_rn(x.w, y.w));
    }
    Store4(output + i, x);
  }
}

}  // namespace

cudaError_t LaunchEmbed(const EmbedKernelArgs& args, cudaStream_t stream) {
  const auto kernel = args.type == DataType::kFloat32 ? EmbedKernel<float> : EmbedKernel<BFloat16>;
  return Launch(kernel, dim3(args.rows), dim3(kThreads), 0, stream, args);
}

}  // namespace elserve::cuda
