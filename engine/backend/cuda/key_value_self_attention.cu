// Self-attention over keys and values of each head, bfloat16: softmax(q K^T) V of a position and its own history.
//
// Every position has cells of its own (beams share most, in the second-level cache). No two queries share a key, so
// there is nothing for tensor cores: a block takes one position, its threads the 16-byte pieces of a cell's row and 4
// groups of them every fourth batch of cells. 4 t heads head_dim bytes for a history of t: bound by memory.
#include "engine/backend/cuda/attention.cuh"
#include "engine/backend/cuda/launch.cuh"

namespace elserve::cuda {
namespace {

constexpr int kGroups = 4;  // that share a position's cells
constexpr int kGroupThreads = 128;
constexpr int kBatch = 4;  // cells whose loads a thread has under way at once

// Eight values of bfloat16.
struct Eight {
  float v[8];
};
__device__ __forceinline__ Eight Unpack(uint4 packed) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
  Eight result;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    result.v[2 * i] = __uint_as_float(words[i] << 16);
    result.v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
  return result;
}

// kPieces: threads of a head, head_dim / 8. A group takes kGroupThreads / kPieces heads; blockIdx.y the next ones.
template <int kPieces>
__global__ void __launch_bounds__(kGroups* kGroupThreads)
    KeyValueSelfKernel(const __grid_constant__ AttentionArgs<BFloat16> args) {
  // 9: no two threads of eight values on one bank.
  auto& sums_shared = StaticShared<float[kGroups][kGroupThreads][9]>();
  auto& scales_shared = StaticShared<float2[kGroups][kGroupThreads]>();
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads,
            thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int inner = args.heads * args.width;
  const int column = (static_cast<int>(blockIdx.y) * kGroupThreads + thread) * 8;  // of all heads'
  const bool active = column < inner;
  const int head = column / args.width;
  const int count = *args.items_count;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    const AttentionItem item = args.items[i];
    const int32_t* ancestry = args.list + item.source;
    Eight query = {}, sum = {};
    if (active) query = Unpack(*reinterpret_cast<const uint4*>(args.query + item.first * args.query_stride + column));
    float greatest = MinusInfinity(), total = 0;
    for (int begin = group * kBatch; begin < item.tokens; begin += kGroups * kBatch) {
      uint4 keys[kBatch] = {}, values[kBatch] = {};
#pragma unroll
      for (int c = 0; c < kBatch; ++c) {
        if (!active || begin + c >= item.tokens) continue;
        const BFloat16* cell = args.memory + __ldg(ancestry + begin + c) * int64_t{2} * inner + column;
        keys[c] = *reinterpret_cast<const uint4*>(cell);
        values[c] = *reinterpret_cast<const uint4*>(cell + inner);
      }
      float scores[kBatch];
      float top = greatest;
#pragma unroll
      for (int c = 0; c < kBatch; ++c) {
        const Eight key = Unpack(keys[c]);
        float score = 0;
#pragma unroll
        for (int n = 0; n < 8; ++n) score += query.v[n] * key.v[n];
#pragma unroll
        for (int offset = kPieces / 2; offset > 0; offset /= 2) score += __shfl_xor_sync(~0u, score, offset);
        scores[c] = begin + c < item.tokens ? score * kLog2E : MinusInfinity();
        top = fmaxf(top, scores[c]);
      }
      const float shrink = Exp2(greatest - top);
      greatest = top;
      total *= shrink;
#pragma unroll
      for (int n = 0; n < 8; ++n) sum.v[n] *= shrink;
#pragma unroll
      for (int c = 0; c < kBatch; ++c) {
        const float weight = begin + c < item.tokens ? Exp2(scores[c] - top) : 0.0f;
        const Eight value = Unpack(values[c]);
        total += weight;
#pragma unroll
        for (int n = 0; n < 8; ++n) sum.v[n] += weight * value.v[n];
      }
    }
    scales_shared[group][thread] = make_float2(greatest, total);
#pragma unroll
    for (int n = 0; n < 8; ++n) sums_shared[group][thread][n] = sum.v[n];
    __syncthreads();
    if (group == 0 && active) {
      // The groups in their order; one without cells has the maximum -infinity and zeros.
      float top = MinusInfinity(), all = 0;
      for (int g = 0; g < kGroups; ++g) top = fmaxf(top, scales_shared[g][thread].x);
      Eight merged = {};
      for (int g = 0; g < kGroups; ++g) {
        const float weight = Exp2(scales_shared[g][thread].x - top);
        all += weight * scales_shared[g][thread].y;
#pragma unroll
        for (int n = 0; n < 8; ++n) merged.v[n] += weight * sums_shared[g][thread][n];
      }
      const int64_t partial = (int64_t{item.partial} + item.split) * args.heads + head;
      const bool whole = item.splits == 1;
      const float factor = whole ? 1.0f / all : 1.0f;
      const float4 low =
          make_float4(merged.v[0] * factor, merged.v[1] * factor, merged.v[2] * factor, merged.v[3] * factor);
      const float4 high =
          make_float4(merged.v[4] * factor, merged.v[5] * factor, merged.v[6] * factor, merged.v[7] * factor);
      if (whole) {
        Store4(args.output + int64_t{item.first} * inner + column, low);
        Store4(args.output + int64_t{item.first} * inner + column + 4, high);
      } else {
        float* to = args.workspace.sums + partial * args.width + column % args.width;
        Store4(to, low);
        Store4(to + 4, high);
        if (column % args.width == 0) args.workspace.scales[partial] = make_float2(top, all);
      }
    }
    if (item.splits > 1 &&
        LastArrival(args.workspace.arrivals + int64_t{item.arrival} * args.heads + blockIdx.y, item.splits)) {
      const int first_head = static_cast<int>(blockIdx.y) * kGroupThreads / kPieces;
      const int end_head = min(args.heads, first_head + kGroupThreads / kPieces);
      for (int h = first_head + static_cast<int>(threadIdx.x) / 32; h < end_head; h += kGroups * kGroupThreads / 32) {
        const SplitRows rows = {int64_t{item.partial} * args.heads + h, args.heads, item.splits};
        MergeRow(args.workspace, rows, args.width, args.output + int64_t{item.first} * inner + int64_t{h} * args.width,
                 static_cast<int>(threadIdx.x) % 32, 32);
      }
    }
    __syncthreads();
  }
}

}  // namespace

bool LaunchKeyValueSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error) {
  if (!FitsTensorCores(args.type, args.head_dim)) return false;
  void (*kernel)(AttentionArgs<BFloat16>) = nullptr;
  switch (args.head_dim) {
    case 8:
      kernel = KeyValueSelfKernel<1>;
      break;
    case 16:
      kernel = KeyValueSelfKernel<2>;
      break;
    case 32:
      kernel = KeyValueSelfKernel<4>;
      break;
    case 64:
      kernel = KeyValueSelfKernel<8>;
      break;
    case 128:
      kernel = KeyValueSelfKernel<16>;
      break;
    default:
      return false;  // a head's threads are not a power of two
  }
  const int columns = CeilDiv(args.heads * args.head_dim, 8 * kGroupThreads);
  const dim3 grid(min(args.work.max_items, args.device.processors * 3), columns);
  *error = Launch(kernel, grid, dim3(kGroups * kGroupThreads), 0, stream, ArgsOf<BFloat16>(args));
  return true;
}

}  // namespace elserve::cuda
