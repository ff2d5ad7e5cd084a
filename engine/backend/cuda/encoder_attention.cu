// The encoder's self-attention on tensor cores, bfloat16: softmax(Q K^T) V for each head of each document, ragged.
//
// A block takes 128 queries of one head: 4 warps of 32 (head_dim up to 64; 8 of 16 above, so that sums fit into
// registers). Keys and values come in tiles of 64 tokens through shared memory by cp.async, two tiles deep: while one
// is multiplied the next is under way, one barrier a tile. Queries, scores, weights and sums never leave registers: the
// fragments of Q K^T are, rounded, the left side of the next product.
//
// 4 n^2 head_dim operations a head against n / 128 readings of 4 n head_dim bytes, mostly from the second-level cache:
// bound by tensor cores, beside 2^x (n^2 a head). XOR swizzles keep matrix loads free of bank conflicts.
#include "engine/backend/cuda/attention.cuh"
#include "engine/backend/cuda/launch.cuh"

namespace elserve::cuda {
namespace {

constexpr int kTokens = 64;

struct EncoderArgs {
  const BFloat16* qkv;
  int64_t qkv_stride;
  BFloat16* output;
  int64_t output_stride;
  int heads;
  int head_dim;
  const EncodeItem* items;
  const int32_t* items_count;
};

// kDim: head_dim rounded up, the rest zeros.
template <int kDim>
class EncoderTile {
  static constexpr int kRowTiles = kDim <= 64 ? 2 : 1;  // sixteens of queries of a warp
  static constexpr int kPieces = kDim / 8;
  static constexpr int kSteps = kDim / 16;
  static constexpr int kColumnTiles = kDim / 8;
  static constexpr int kTokenTiles = kTokens / 8;
  static constexpr int kTileBytes = kTokens * kDim * 2;

 public:
  static constexpr int kThreads = kEncoderTile / (16 * kRowTiles) * 32;
  static constexpr int kSharedBytes = 4 * kTileBytes;  // [stage][keys, values]

  __device__ EncoderTile(const EncoderArgs& args, const EncodeItem& item, int head)
      : args_(args),
        item_(item),
        head_(head),
        lane_(static_cast<int>(threadIdx.x) % 32),
        first_(static_cast<int>(threadIdx.x) / 32 * 16 * kRowTiles) {}

  __device__ void Run() {
    uint32_t queries[kRowTiles][kSteps][4];
    LoadTile(0);
    ReadQueries(queries);
    float sums[kRowTiles][kColumnTiles][4] = {};
    float greatest[kRowTiles][2], total[kRowTiles][2] = {};
#pragma unroll
    for (auto& rows : greatest) rows[0] = rows[1] = MinusInfinity();
    const int tiles = CeilDiv(item_.length, kTokens);
    for (int t = 0; t < tiles; ++t) {
      WaitCopies<0>();
      __syncthreads();  // tile t is there; all have done with t - 1
      if (t + 1 < tiles) LoadTile(t + 1);
      if (first_ >= item_.count) continue;
      float scores[kRowTiles][kTokenTiles][4] = {};
      Score(Tile(t, 0), queries, scores);
      uint32_t weights[kRowTiles][kTokenTiles][2];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        Softmax(item_.length - t * kTokens, scores[m], greatest[m], total[m], sums[m], weights[m]);
      }
      AddWeighted(Tile(t, 1), weights, sums);
    }
    if (first_ < item_.count) Write(total, sums);
  }

 private:
  __device__ static BFloat16* Tile(int t, int values) {
    return reinterpret_cast<BFloat16*>(DynamicShared() + ((t & 1) * 2 + values) * kTileBytes);
  }
  __device__ static uint4* Piece(BFloat16* tile, int row, int piece) {
    return reinterpret_cast<uint4*>(tile) + Swizzled<kPieces>(row, piece);
  }

  __device__ void ReadQueries(uint32_t (&queries)[kRowTiles][kSteps][4]) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = first_ + m * 16 + i % 2 * 8 + lane_ / 4, column = k * 16 + i / 2 * 8 + lane_ % 4 * 2;
          const bool valid = row < item_.count && column < args_.head_dim;
          const BFloat16* from = args_.qkv + (item_.first + row) * args_.qkv_stride + head_ * args_.head_dim + column;
          queries[m][k][i] = valid ? *reinterpret_cast<const uint32_t*>(from) : 0;
        }
      }
    }
  }

  __device__ void LoadTile(int t) const {
    const int inner = args_.heads * args_.head_dim;
    const BFloat16* from =
        args_.qkv + (item_.begin + int64_t{t} * kTokens) * args_.qkv_stride + inner + head_ * args_.head_dim;
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kTokens * kPieces; i += kThreads) {
      const int row = i / kPieces, piece = i % kPieces;
      const bool valid = t * kTokens + row < item_.length && piece * 8 < args_.head_dim;
      const BFloat16* key = valid ? from + row * args_.qkv_stride + piece * 8 : args_.qkv;
      CopyAsync16(Piece(Tile(t, 0), row, piece), key, valid);
      CopyAsync16(Piece(Tile(t, 1), row, piece), valid ? key + inner : key, valid);
    }
    CommitCopies();
  }

  __device__ void Score(BFloat16* keys_tile, const uint32_t (&queries)[kRowTiles][kSteps][4],
                        float (&scores)[kRowTiles][kTokenTiles][4]) const {
    const int lane = Opaque(lane_);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; n += 2) {
        uint32_t keys[4];
        LoadMatrix4(keys, Piece(keys_tile, n * 8 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          MultiplyAdd(scores[m][n], queries[m][k], keys[0], keys[1]);
          MultiplyAdd(scores[m][n + 1], queries[m][k], keys[2], keys[3]);
        }
      }
    }
  }

  // A thread has rows lane / 4 and lane / 4 + 8; its three neighbours have the rest of their tokens.
  __device__ void Softmax(int tokens, float (&scores)[kTokenTiles][4], float (&greatest)[2], float (&total)[2],
                          float (&sums)[kColumnTiles][4], uint32_t (&weights)[kTokenTiles][2]) const {
    if (tokens < kTokens) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (n * 8 + lane_ % 4 * 2 + i % 2 >= tokens) scores[n][i] = MinusInfinity();
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = MinusInfinity();
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) top = fmaxf(top, fmaxf(scores[n][half * 2], scores[n][half * 2 + 1]));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      top = fmaxf(greatest[half], top * kLog2E);
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
        const float low = Exp2(scores[n][half * 2] * kLog2E - top), high = Exp2(scores[n][half * 2 + 1] * kLog2E - top);
        weights[n][half] = PackBFloat16(low, high);
        total[half] += __uint_as_float(weights[n][half] << 16) + __uint_as_float(weights[n][half] & 0xffff0000u);
      }
    }
  }

  __device__ void AddWeighted(BFloat16* values_tile, const uint32_t (&weights)[kRowTiles][kTokenTiles][2],
                              float (&sums)[kRowTiles][kColumnTiles][4]) const {
    const int lane = Opaque(lane_);
#pragma unroll
    for (int k = 0; k < kTokenTiles / 2; ++k) {
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        uint32_t values[4];
        LoadMatrix4Transposed(values, Piece(values_tile, k * 16 + lane % 16, n + lane / 16));
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          const uint32_t a[4] = {weights[m][2 * k][0], weights[m][2 * k][1], weights[m][2 * k + 1][0],
                                 weights[m][2 * k + 1][1]};
          MultiplyAdd(sums[m][n], a, values[0], values[1]);
          MultiplyAdd(sums[m][n + 1], a, values[2], values[3]);
        }
      }
    }
  }

  __device__ void Write(float (&total)[kRowTiles][2], const float (&sums)[kRowTiles][kColumnTiles][4]) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float all = total[m][half];
        all += __shfl_xor_sync(~0u, all, 1);
        all += __shfl_xor_sync(~0u, all, 2);
        const float inverse = 1.0f / all;
        const int row = first_ + m * 16 + half * 8 + lane_ / 4;
        if (row >= item_.count) continue;
        BFloat16* to = args_.output + (item_.first + row) * args_.output_stride + head_ * args_.head_dim;
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
          const int column = n * 8 + lane_ % 4 * 2;
          if (column >= args_.head_dim) continue;
          *reinterpret_cast<uint32_t*>(to + column) =
              PackBFloat16(sums[m][n][half * 2] * inverse, sums[m][n][half * 2 + 1] * inverse);
        }
      }
    }
  }

  const EncoderArgs& args_;
  const EncodeItem& item_;
  const int head_;
  const int lane_;
  const int first_;  // query of the warp
};

template <int kDim>
__global__ void __launch_bounds__(EncoderTile<kDim>::kThreads)
    EncoderAttentionKernel(const __grid_constant__ EncoderArgs args) {
  const int64_t count = int64_t{*args.items_count} * args.heads;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const EncodeItem item = args.items[i / args.heads];
    EncoderTile<kDim>(args, item, static_cast<int>(i % args.heads)).Run();
    __syncthreads();  // the tiles' place is used again
  }
}

struct Instance {
  int max_width;
  int threads;
  int shared_bytes;
  void (*kernel)(EncoderArgs);
};
template <int kDim>
constexpr Instance Make() {
  return {kDim, EncoderTile<kDim>::kThreads, EncoderTile<kDim>::kSharedBytes, EncoderAttentionKernel<kDim>};
}
constexpr Instance kInstances[] = {Make<16>(), Make<32>(), Make<64>(), Make<128>()};

}  // namespace

bool LaunchTensorEncoderAttention(const EncoderAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error) {
  if (!FitsTensorCores(args.type, args.head_dim)) return false;
  const Instance* instance = FirstFit(kInstances, args.head_dim, args.device);
  if (instance == nullptr) return false;
  const int64_t inner = int64_t{args.heads} * args.head_dim;
  const EncoderArgs encoder = {.qkv = static_cast<const BFloat16*>(args.qkv),
                               .qkv_stride = StrideOf<BFloat16>(3 * inner),
                               .output = static_cast<BFloat16*>(args.output),
                               .output_stride = StrideOf<BFloat16>(inner),
                               .heads = args.heads,
                               .head_dim = args.head_dim,
                               .items = args.items,
                               .items_count = args.items_count};
  // As many blocks as there can be tasks: the device hands them out as multiprocessors become free, which evens out
  // documents of different lengths; the loop is for grids beyond that.
  const int64_t tasks = int64_t{args.max_items} * args.heads;
  const auto grid = static_cast<unsigned>(min(tasks, int64_t{args.device.processors} * 64));
  *error = Launch(instance->kernel, dim3(grid), dim3(instance->threads), instance->shared_bytes, stream, encoder);
  return true;
}

cudaError_t PrepareEncoderAttention(const Device& device) { return AllowShared(kInstances, device); }

}  // namespace elserve::cuda
