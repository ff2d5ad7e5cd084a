// EL-attention on tensor cores, bfloat16: softmax(Q~ H^T) H for the lanes (heads x positions) that share states H [n,
// d]. Cross-attention reads H from a document's pages, self-attention the attention inputs X of a hypothesis through
// its ancestry: the same kernel but for where a token's row stands.
//
// Shapes: a tile of M = 32 (or 16) lanes, S = Q~ H^T [M, n], O = softmax(S) H [M, d]; 4 M n d operations for 2 n d
// bytes of H. With 64 lanes a document (4 beams x 16 heads, two tiles, the second finds H in the second-level cache)
// that is 128 operations a byte of memory: bound by tensor cores from about 48 lanes on, by memory below
// (self-attention: 16 lanes).
#include "engine/backend/cuda/el_tile.cuh"

namespace elserve::cuda {
namespace {

// A function of its own: inlined beside the larger tile's, it costs that one registers.
template <ElRows kRows, typename L>
__device__ __noinline__ void RunSixteen(const AttentionArgs<BFloat16>& args, int index) {
  ElTile<kRows, L, 1>(args, index).Run();
}

// Blocks of sixteen lanes that share a multiprocessor from sm_90 on; before, wide states leave no shared memory for a
// second one, and registers need not be kept for it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kSixteensEach = 1;
#else
constexpr int kSixteensEach = 2;
#endif

// kMaxTileRows: sixteens of lanes that an item may have; one that has sixteen at most is done as such.
template <ElRows kRows, typename L, int kMaxTileRows>
__global__ void __launch_bounds__(kElThreads, kMaxTileRows == 1 ? kSixteensEach : 1)
    ElAttentionKernel(const __grid_constant__ AttentionArgs<BFloat16> args) {
  const int count = *args.items_count;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    if (kMaxTileRows > 1 && args.items[i].count <= 16) {
      RunSixteen<kRows, L>(args, i);
    } else {
      ElTile<kRows, L, kMaxTileRows>(args, i).Run();
    }
    __syncthreads();  // what the warps share is used again
  }
}

struct Instance {
  int max_width;
  int shared_bytes;
  int most_each;  // blocks of a multiprocessor, by registers
  void (*kernel)(AttentionArgs<BFloat16>);
};

template <ElRows kRows, typename L, int kMaxTileRows>
constexpr Instance MakeInstance() {
  return {L::kDim, L::Bytes(16 * kMaxTileRows), kMaxTileRows == 1 ? 2 : 1, ElAttentionKernel<kRows, L, kMaxTileRows>};
}

// The device's shared memory: 227 KiB a block from sm_90 on, 163 KiB on sm_80, 99 KiB on sm_86 and sm_89.
constexpr Instance kCross[] = {
    MakeInstance<ElRows::kPages, ElLayout<128, 32, 3>, 2>(),
    MakeInstance<ElRows::kPages, ElLayout<256, 32, 3>, 2>(),
    MakeInstance<ElRows::kPages, ElLayout<512, 32, 3>, 2>(),
    MakeInstance<ElRows::kPages, ElLayout<512, 16, 4>, 2>(),
    MakeInstance<ElRows::kPages, ElLayout<768, 32, 3>, 2>(),
    MakeInstance<ElRows::kPages, ElLayout<768, 16, 4>, 2>(),
    MakeInstance<ElRows::kPages, ElLayout<768, 16, 3>, 2>(),
    MakeInstance<ElRows::kPages, ElLayout<1024, 16, 4, 2>, 2>(),
};
// 16 lanes and memory-bound: small tiles, so that two blocks share a multiprocessor.
constexpr Instance kSelf[] = {
    MakeInstance<ElRows::kCells, ElLayout<128, 32, 3>, 1>(),
    MakeInstance<ElRows::kCells, ElLayout<256, 32, 3>, 1>(),
    MakeInstance<ElRows::kCells, ElLayout<512, 16, 4>, 1>(),
    MakeInstance<ElRows::kCells, ElLayout<768, 16, 3>, 1>(),
    MakeInstance<ElRows::kCells, ElLayout<1024, 16, 3, 1>, 1>(),
};

template <int kCount>
bool LaunchFirstFit(const Instance (&instances)[kCount], const DecodeAttentionKernelArgs& args, cudaStream_t stream,
                    cudaError_t* error) {
  if (!FitsTensorCores(args.type, args.d)) return false;
  const Instance* instance = FirstFit(instances, args.d, args.device);
  if (instance == nullptr) return false;
  const int each = BlocksEach(instance->shared_bytes, instance->most_each, args.device);
  *error = Launch(instance->kernel, dim3(min(args.work.max_items, args.device.processors * each)), dim3(kElThreads),
                  instance->shared_bytes, stream, ArgsOf<BFloat16>(args));
  return true;
}

}  // namespace

bool LaunchElCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error) {
  return LaunchFirstFit(kCross, args, stream, error);
}

bool LaunchElSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error) {
  return LaunchFirstFit(kSelf, args, stream, error);
}

cudaError_t PrepareElAttention(const Device& device) {
  if (const cudaError_t error = AllowShared(kCross, device); error != cudaSuccess) return error;
  return AllowShared(kSelf, device);
}

}  // namespace elserve::cuda
