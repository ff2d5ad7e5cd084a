// Cross-attention over keys and values of each head, bfloat16, on tensor cores: softmax(q K^T) V.
//
// The positions (beams) of a document share its K, V [n, head_dim], which stand head by head in pages of 64 tokens. A
// block takes a tile of 16 positions, one head and one split; each of its 4 warps takes every fourth page on its own (8
// + 8 KiB for heads of 64, all under way at once by cp.async), so no barrier stands in the loop, and the warps' results
// merge once, in their order. 4 * 16 n head_dim operations (mostly padding: beams are few) for 4 n head_dim bytes:
// bound by memory.
#include "engine/backend/cuda/attention.cuh"
#include "engine/backend/cuda/launch.cuh"

namespace elserve::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;

// kDim: head_dim rounded up, the rest zeros. Shared memory: [warp][keys, values][64][kDim], then the warps' scales.
template <int kDim>
class CrossTile {
  static constexpr int kPieces = kDim / 8;
  static constexpr int kSteps = kDim / 16;
  static constexpr int kColumnTiles = kDim / 8;
  static constexpr int kTokenTiles = kPageTokens / 8;
  static constexpr int kPageBytes = kPageTokens * kDim * 2;

 public:
  static constexpr int kScales = kWarps * 2 * kPageBytes;  // float2 [warp][16]
  static constexpr int kSharedBytes = kScales + kWarps * kTilePositions * 8;
  static_assert(kTilePositions == 16 && 2 * kPageBytes >= 16 * kDim * 4, "a warp's sums fit where its page was");

  __device__ CrossTile(const AttentionArgs<BFloat16>& args, const AttentionItem& item, int head)
      : args_(args),
        item_(item),
        head_(head),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32) {}

  __device__ void Run() {
    uint32_t queries[kSteps][4];
    ReadQueries(queries);
    float sums[kColumnTiles][4] = {};
    float greatest[2] = {MinusInfinity(), MinusInfinity()}, total[2] = {};
    const int pages = CeilDiv(item_.tokens, kPageTokens);
    for (int page = warp_; page < pages; page += kWarps) {
      const int tokens = min(kPageTokens, item_.tokens - page * kPageTokens);
      LoadPage(args_.list[item_.source + page], tokens);
      WaitCopies<1>();
      __syncwarp();
      float scores[kTokenTiles][4] = {};
      Score(queries, scores);
      uint32_t weights[kTokenTiles][2];
      Softmax(scores, tokens, greatest, total, sums, weights);
      WaitCopies<0>();
      __syncwarp();
      AddWeighted(weights, sums);
      __syncwarp();
    }
    Merge(greatest, total, sums);
  }

 private:
  __device__ BFloat16* Page(int values) const {
    return reinterpret_cast<BFloat16*>(DynamicShared() + (warp_ * 2 + values) * kPageBytes);
  }
  __device__ static uint4* Piece(BFloat16* page, int row, int piece) {
    return reinterpret_cast<uint4*>(page) + Swizzled<kPieces>(row, piece);
  }
  __device__ int64_t QueryAt(int row) const {
    return ((item_.first + row) * int64_t{args_.heads} + head_) * args_.width;
  }

  // Straight from memory into fragments: 16 rows are read once.
  __device__ void ReadQueries(uint32_t (&queries)[kSteps][4]) const {
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = lane_ / 4 + i % 2 * 8, column = k * 16 + i / 2 * 8 + lane_ % 4 * 2;
        const bool valid = row < item_.count && column < args_.width;
        queries[k][i] = valid ? *reinterpret_cast<const uint32_t*>(args_.query + QueryAt(row) + column) : 0;
      }
    }
  }

  // Keys are one group of copies, values the next.
  __device__ void LoadPage(int page, int tokens) const {
#pragma unroll
    for (int values = 0; values < 2; ++values) {
      const int64_t block = (int64_t{page} * 2 + values) * args_.heads + head_;
      const BFloat16* from = args_.memory + block * kPageTokens * args_.width;
      BFloat16* to = Page(values);
#pragma unroll 4
      for (int i = lane_; i < kPageTokens * kPieces; i += 32) {
        const int row = i / kPieces, piece = i % kPieces;
        const bool valid = row < tokens && piece * 8 < args_.width;
        CopyAsync16(Piece(to, row, piece), from + (valid ? row * args_.width + piece * 8 : 0), valid);
      }
      CommitCopies();
    }
  }

  __device__ void Score(const uint32_t (&queries)[kSteps][4], float (&scores)[kTokenTiles][4]) const {
#pragma unroll
    for (int n = 0; n < kTokenTiles; n += 2) {
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        uint32_t keys[4];
        LoadMatrix4(keys, Piece(Page(0), n * 8 + lane_ / 16 * 8 + lane_ % 8, k * 2 + lane_ / 8 % 2));
        MultiplyAdd(scores[n], queries[k], keys[0], keys[1]);
        MultiplyAdd(scores[n + 1], queries[k], keys[2], keys[3]);
      }
    }
  }

  // A thread has rows lane / 4 and lane / 4 + 8; its three neighbours have the rest of their tokens.
  __device__ void Softmax(float (&scores)[kTokenTiles][4], int tokens, float (&greatest)[2], float (&total)[2],
                          float (&sums)[kColumnTiles][4], uint32_t (&weights)[kTokenTiles][2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = greatest[half];
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n][half * 2 + i];
          score = n * 8 + lane_ % 4 * 2 + i < tokens ? score * kLog2E : MinusInfinity();
          top = fmaxf(top, score);
        }
      }
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      const float shrink = Exp2(greatest[half] - top);
      greatest[half] = top;
      total[half] *= shrink;
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        sums[n][half * 2] *= shrink;
        sums[n][half * 2 + 1] *= shrink;
      }
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
        const int token = n * 8 + lane_ % 4 * 2;
        const float low = token < tokens ? Exp2(scores[n][half * 2] - top) : 0.0f;
        const float high = token + 1 < tokens ? Exp2(scores[n][half * 2 + 1] - top) : 0.0f;
        weights[n][half] = PackBFloat16(low, high);
        // The sum is of what the product multiplies by: the rounded weights.
        total[half] += __uint_as_float(weights[n][half] << 16) + __uint_as_float(weights[n][half] & 0xffff0000u);
      }
    }
  }

  // The weights' fragments as a product's result are what the next product takes as its left side.
  __device__ void AddWeighted(const uint32_t (&weights)[kTokenTiles][2], float (&sums)[kColumnTiles][4]) const {
#pragma unroll
    for (int k = 0; k < kTokenTiles / 2; ++k) {
      const uint32_t a[4] = {weights[2 * k][0], weights[2 * k][1], weights[2 * k + 1][0], weights[2 * k + 1][1]};
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        uint32_t values[4];
        LoadMatrix4Transposed(values, Piece(Page(1), k * 16 + lane_ % 16, n + lane_ / 16));
        MultiplyAdd(sums[n], a, values[0], values[1]);
        MultiplyAdd(sums[n + 1], a, values[2], values[3]);
      }
    }
  }

  // The warps' sums meet in shared memory, where their pages were; a thread adds up columns of a row, warp after warp.
  __device__ void Merge(float (&greatest)[2], float (&total)[2], float (&sums)[kColumnTiles][4]) const {
    auto* scales = reinterpret_cast<float2*>(DynamicShared() + kScales);
    float* own = reinterpret_cast<float*>(Page(0));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = half * 8 + lane_ / 4;
      total[half] += __shfl_xor_sync(~0u, total[half], 1);
      total[half] += __shfl_xor_sync(~0u, total[half], 2);
      if (lane_ % 4 == 0) scales[warp_ * kTilePositions + row] = make_float2(greatest[half], total[half]);
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        *reinterpret_cast<float2*>(own + row * kDim + n * 8 + lane_ % 4 * 2) =
            make_float2(sums[n][half * 2], sums[n][half * 2 + 1]);
      }
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < item_.count * kDim / 4; i += kThreads) {
      const int row = i / (kDim / 4), column = i % (kDim / 4) * 4;
      if (column < args_.width) MergeColumns(scales, row, column);
    }
    if (item_.splits == 1) return;
    if (!LastArrival(args_.workspace.arrivals + int64_t{item_.arrival} * args_.heads + head_, item_.splits)) return;
    for (int row = warp_; row < item_.count; row += kWarps) {
      const SplitRows rows = {(int64_t{item_.partial} + row) * args_.heads + head_, int64_t{item_.count} * args_.heads,
                              item_.splits};
      MergeRow(args_.workspace, rows, args_.width, args_.output + QueryAt(row), lane_, 32);
    }
  }

  __device__ void MergeColumns(const float2* scales, int row, int column) const {
    float top = MinusInfinity(), all = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) top = fmaxf(top, scales[warp * kTilePositions + row].x);
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      // A warp without pages has the maximum -infinity and zeros.
      const float2 scale = scales[warp * kTilePositions + row];
      const float weight = Exp2(scale.x - top);
      const float4 part =
          Load4(reinterpret_cast<const float*>(DynamicShared() + warp * 2 * kPageBytes) + row * kDim + column);
      all += weight * scale.y;
      sum = make_float4(sum.x + weight * part.x, sum.y + weight * part.y, sum.z + weight * part.z,
                        sum.w + weight * part.w);
    }
    if (item_.splits > 1) {
      const int64_t partial = (int64_t{item_.partial} + item_.split * item_.count + row) * args_.heads + head_;
      if (column == 0) args_.workspace.scales[partial] = make_float2(top, all);
      Store4(args_.workspace.sums + partial * args_.width + column, sum);
      return;
    }
    const float inverse = 1.0f / all;
    Store4(args_.output + QueryAt(row) + column,
           make_float4(sum.x * inverse, sum.y * inverse, sum.z * inverse, sum.w * inverse));
  }

  const AttentionArgs<BFloat16>& args_;
  const AttentionItem& item_;
  const int head_;
  const int lane_;
  const int warp_;
};

template <int kDim>
__global__ void __launch_bounds__(kThreads, kDim > 64 ? 1 : 3)
    KeyValueCrossKernel(const __grid_constant__ AttentionArgs<BFloat16> args) {
  const int64_t count = int64_t{*args.items_count} * args.heads;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const AttentionItem item = args.items[i / args.heads];
    CrossTile<kDim>(args, item, static_cast<int>(i % args.heads)).Run();
    __syncthreads();  // the pages' place is used again
  }
}

struct Instance {
  int max_width;
  int shared_bytes;
  void (*kernel)(AttentionArgs<BFloat16>);
};
template <int kDim>
constexpr Instance MakeInstance() {
  return {kDim, CrossTile<kDim>::kSharedBytes, KeyValueCrossKernel<kDim>};
}
constexpr Instance kInstances[] = {MakeInstance<16>(), MakeInstance<32>(), MakeInstance<64>(), MakeInstance<128>()};

}  // namespace

bool LaunchKeyValueCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error) {
  if (!FitsTensorCores(args.type, args.head_dim)) return false;
  const Instance* instance = FirstFit(kInstances, args.head_dim, args.device);
  if (instance == nullptr) return false;
  const int64_t tasks = int64_t{args.work.max_items} * args.heads;
  const int each = BlocksEach(instance->shared_bytes, 3, args.device);
  const auto grid = static_cast<unsigned>(min(tasks, int64_t{args.device.processors} * each));
  *error = Launch(instance->kernel, dim3(grid), dim3(kThreads), instance->shared_bytes, stream, ArgsOf<BFloat16>(args));
  return true;
}

cudaError_t PrepareKeyValueCrossAttention(const Device& device) { return AllowShared(kInstances, device); }

}  // namespace elserve::cuda
