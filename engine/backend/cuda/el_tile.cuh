// One block's work in EL-attention on tensor cores (el_attention.cu): a tile of lanes over one split of their tokens.
//
// O [32, 1024] float32 is what one block's registers hold, hence 32 lanes. 8 warps; warp w owns columns [w W, (w + 1)
// W) of d, W = d / 8, in everything:
// - its copies of H's columns come by cp.async, some tiles ahead, and no other warp reads them: no barrier guards them;
// - its part of the scores, Q~[:, columns] H[:, columns]^T, from queries that stay in registers as fragments;
// - its columns of O, from the very tile that the scores were made of: H is read from memory once for both products.
// Only scores and weights cross warps: parts of S [8][M][T] in shared memory, which are summed in the order of the
// warps by the warp that owns the lane (M / 8 lanes each), which also keeps the lane's maximum and sum and leaves
// weights (bfloat16) and the factor that shrinks O. Scores of tile t + 1 are made before the weighted sum of tile t, so
// that one warp's softmax runs beside another's products. Two barriers a tile.
//
// Shared memory is free of bank conflicts by XOR swizzles: 16-byte pieces of H by row, parts and weights as written
// below.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_EL_TILE_CUH_
#define ELSERVE_ENGINE_BACKEND_CUDA_EL_TILE_CUH_

#include "engine/backend/cuda/attention.cuh"
#include "engine/backend/cuda/launch.cuh"

namespace elserve::cuda {

inline constexpr int kElWarps = 8;
inline constexpr int kElThreads = 32 * kElWarps;

// What the list of a tile's tokens names: pages of 64 rows, or single rows.
enum class ElRows { kPages, kCells };

// kDim: d rounded up to what the warps share evenly, the rest zeros. kTile: tokens of a tile. kStageCount: tiles in
// shared memory: the one that is summed, the one that is scored, and those under way. kSharedStepCount: sixteens of a
// warp's query columns that stay in shared memory, where the registers do not suffice.
template <int kColumns, int kTokens, int kStageCount, int kSharedStepCount = 0>
struct ElLayout {
  static constexpr int kDim = kColumns;
  static constexpr int kTile = kTokens;
  static constexpr int kStages = kStageCount;
  static constexpr int kSharedSteps = kSharedStepCount;
  static constexpr int kPieces = kDim / 8;        // 16-byte pieces of a row
  static constexpr int kWidth = kDim / kElWarps;  // a warp's columns
  static constexpr int kWarpPieces = kWidth / 8;
  static constexpr int kStageBytes = kTile * kDim * 2;
  // Behind the stages.
  static constexpr int kParts = kStages * kStageBytes;  // float [kElWarps][lanes][kTile]
  static constexpr int Weights(int lanes) {
    return kParts + kElWarps * lanes * kTile * 4;
  }  // bfloat16 [2][lanes][kTile]
  static constexpr int Shrinks(int lanes) { return Weights(lanes) + 2 * lanes * kTile * 2; }  // float [2][lanes]
  static constexpr int Scales(int lanes) { return Shrinks(lanes) + 2 * lanes * 4; }           // float2 [lanes]
  static constexpr int Queries(int lanes) { return Scales(lanes) + lanes * 8; }  // [lanes][kElWarps][kSharedSteps][16]
  static constexpr int Bytes(int lanes) { return Queries(lanes) + lanes * kElWarps * kSharedSteps * 32; }
  static_assert(kTile == 16 || kTile == 32);
  static_assert(kWidth % 16 == 0, "a warp's columns are whole steps of the product");
};

// Row-major float [rows][kTile]: a matrix product's fragments (two columns of eight rows) are written without
// conflicts.
template <int kTile>
__device__ __forceinline__ int ElPartAt(int row, int column) {
  return row * kTile + (kTile == 32 ? column ^ ((row & 3) << 3) : column ^ ((row & 2) << 2));
}

template <ElRows kRows, typename L, int kTileRows>
class ElTile {
  static constexpr int kTile = L::kTile;
  static constexpr int kStages = L::kStages;
  static constexpr int kLanes = 16 * kTileRows;
  static constexpr int kSteps =
      L::kWidth / 16 - L::kSharedSteps;               // of the scores' inner dimension, queries in registers
  static constexpr int kColumnTiles = L::kWidth / 8;  // columns of O, in eights
  static constexpr int kOwned = kLanes / kElWarps;    // lanes whose softmax this warp does: 4 or 2
  static constexpr int kAtOnce = 32 / kTile;          // of them, side by side in the warp
  static constexpr int kPasses = kOwned / kAtOnce;
  static constexpr int kWeights = L::Weights(kLanes);
  static constexpr int kShrinks = L::Shrinks(kLanes);
  static constexpr int kScales = L::Scales(kLanes);
  static constexpr int kQueries = L::Queries(kLanes);

 public:
  __device__ ElTile(const AttentionArgs<BFloat16>& args, int index)
      : args_(args),
        index_(index),
        tokens_(args.items[index].tokens),
        source_(args.items[index].source),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32) {}

  __device__ void Run() {
    uint32_t queries[kTileRows][kSteps][4];
    LoadFirst(queries);
    float sums[kTileRows][kColumnTiles][4] = {};
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      greatest_[i] = MinusInfinity();
      total_[i] = 0;
    }
    WriteParts(queries, 0);
    __syncthreads();
    Softmax(0);
    const int tiles = CeilDiv(tokens_, kTile);
    int stage = 0;
    for (int t = 0; t < tiles; ++t) {
      const int next = stage + 1 == kStages ? 0 : stage + 1;
      const bool more = t + 1 < tiles;
      __syncthreads();  // weights of t are there; parts have been read
      if (more) {
        LoadTile(t + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);  // where t - 1 was
        row_ = RowOf(t + kStages);
        WaitCopies<kStages - 2>();
        __syncwarp();
        WriteParts(queries, next);
        __syncthreads();
      }
      // Of the two warps that share a scheduler one begins with its softmax, the other with its products.
      if (more && warp_ < kElWarps / 2) Softmax(t + 1);
      AddWeighted(t, stage, sums);
      if (more && warp_ >= kElWarps / 2) Softmax(t + 1);
      stage = next;
    }
    WaitCopies<0>();
    Finish(sums);
  }

 private:
  __device__ const AttentionItem& Item() const { return args_.items[index_]; }
  __device__ BFloat16* Stage(int stage) {
    return reinterpret_cast<BFloat16*>(DynamicShared() + stage * L::kStageBytes);
  }
  __device__ static uint4* Piece(BFloat16* stage, int row, int piece) {
    return reinterpret_cast<uint4*>(stage) + Swizzled<L::kPieces>(row, piece);
  }
  // The warp's piece `even` + `odd`, where `even` is a constant and `odd` is 0 or 1.
  __device__ uint4* WarpPiece(BFloat16* stage, int row, int even, int odd) const {
    if constexpr (L::kWarpPieces % 8 == 0) {
      // Swizzled(), taken apart: one exclusive or for each constant.
      const int piece = row * L::kPieces + warp_ * L::kWarpPieces;
      return reinterpret_cast<uint4*>(stage) + piece + (even & ~7) + ((even & 7) ^ (odd ^ (row & 7)));
    }
    return Piece(stage, row, warp_ * L::kWarpPieces + even + odd);
  }

  // Piece `half` of step k of those that stay in shared memory.
  __device__ uint4* SharedQuery(int lane, int k, int half) const {
    constexpr int kPieces = kElWarps * (L::kSharedSteps > 0 ? L::kSharedSteps : 1) * 2;
    return reinterpret_cast<uint4*>(DynamicShared() + kQueries) +
           Swizzled<kPieces>(lane, (warp_ * L::kSharedSteps + k) * 2 + half);
  }

  // The row in memory of token t * kTile + lane_; -1 behind the split's end.
  __device__ int RowOf(int t) const {
    const int token = t * kTile + lane_;
    if (lane_ >= kTile || token >= tokens_) return -1;
    if constexpr (kRows == ElRows::kCells) return __ldg(args_.list + source_ + token);
    return __ldg(args_.list + source_ + token / kPageTokens) * kPageTokens + token % kPageTokens;
  }

  // Queries and the first tiles, whose loads all run at once. Queries come by way of the last stage, in as many turns
  // as it takes.
  __device__ void LoadFirst(uint32_t (&queries)[kTileRows][kSteps][4]) {
    constexpr int kTurnRows = kTile < kLanes ? 1 : kTileRows;
#pragma unroll
    for (int m = 0; m + kTurnRows < kTileRows; m += kTurnRows) {
      LoadQueries(m, kTurnRows);
      WaitCopies<0>();
      __syncwarp();
      ReadQueries(m, kTurnRows, queries);
    }
    constexpr int kLastTurn = kTileRows - kTurnRows;
    LoadQueries(kLastTurn, kTurnRows);
#pragma unroll
    for (int t = 0; t < kStages - 1; ++t) {
      row_ = RowOf(t);
      LoadTile(t, t);
    }
    row_ = RowOf(kStages - 1);
    WaitCopies<kStages - 1>();
    __syncwarp();
    ReadQueries(kLastTurn, kTurnRows, queries);
    WaitCopies<kStages - 2>();
    __syncwarp();
  }

  // The warp's columns of lanes [16 * first, 16 * (first + count)).
  __device__ void LoadQueries(int first, int count) {
    BFloat16* stage = Stage(kStages - 1);
    for (int i = lane_; i < 16 * count * L::kWarpPieces; i += 32) {
      const int row = i / L::kWarpPieces, piece = warp_ * L::kWarpPieces + i % L::kWarpPieces;
      const int lane = 16 * first + row;
      const bool valid = lane < Item().count && piece * 8 < args_.width;
      const BFloat16* from = args_.query + (valid ? (Item().first + lane) * int64_t{args_.width} + piece * 8 : 0);
      CopyAsync16(Piece(stage, row, piece), from, valid);
    }
    CommitCopies();
  }
  __device__ void ReadQueries(int first, int count, uint32_t (&queries)[kTileRows][kSteps][4]) {
    BFloat16* stage = Stage(kStages - 1);
#pragma unroll
    for (int m = 0; m < kTileRows; ++m) {
      if (m < first || m >= first + count) continue;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        LoadMatrix4(queries[m][k], WarpPiece(stage, (m - first) * 16 + lane_ % 16, k * 2, lane_ / 16));
      }
#pragma unroll
      for (int k = 0; k < L::kSharedSteps; ++k) {
        const int row = lane_ % 16;
        *SharedQuery(m * 16 + row, k, lane_ / 16) =
            *WarpPiece(stage, (m - first) * 16 + row, (kSteps + k) * 2, lane_ / 16);
      }
    }
    __syncwarp();
  }

  // The warp's columns of tile t, whose rows are in row_. A tile behind the end is an empty group.
  __device__ void LoadTile(int t, int to) {
    const int lane = Opaque(lane_);
    if (t * kTile < tokens_) {
      BFloat16* stage = Stage(to);
      constexpr int kCopies = kTile * L::kWarpPieces;
      static_assert(kCopies % 32 == 0);
#pragma unroll 2
      for (int first = 0; first < kCopies; first += 32) {
        const int i = first + lane;
        const int r = i / L::kWarpPieces, piece = warp_ * L::kWarpPieces + i % L::kWarpPieces;
        const int row = __shfl_sync(~0u, row_, r % 32);
        const bool valid = row >= 0 && piece * 8 < args_.width;
        const BFloat16* from = args_.memory + (valid ? row * int64_t{args_.width} + piece * 8 : 0);
        CopyAsync16(Piece(stage, r, piece), from, valid);
      }
    }
    CommitCopies();
  }

  // parts[warp] = queries[:, columns] tile[:, columns]^T, sixteen tokens at a time.
  __device__ void WriteParts(const uint32_t (&queries)[kTileRows][kSteps][4], int from) {
    const int lane = Opaque(lane_);
    BFloat16* stage = Stage(from);
    float* parts = reinterpret_cast<float*>(DynamicShared() + L::kParts) + warp_ * kLanes * kTile;
#pragma unroll
    for (int n = 0; n < kTile / 16; ++n) {
      float scores[kTileRows][2][4] = {};
#pragma unroll
      for (int k = 0; k < kSteps + L::kSharedSteps; ++k) {
        uint32_t keys[4];
        const int row = n * 16 + lane / 16 * 8 + lane % 8;
        LoadMatrix4(keys, WarpPiece(stage, row, k * 2, lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < kTileRows; ++m) {
          if (k < kSteps) {
            MultiplyAdd(scores[m][0], queries[m][k], keys[0], keys[1]);
            MultiplyAdd(scores[m][1], queries[m][k], keys[2], keys[3]);
          } else {
            uint32_t query[4];
            LoadMatrix4(query, SharedQuery(m * 16 + lane % 16, k - kSteps, lane / 16));
            MultiplyAdd(scores[m][0], query, keys[0], keys[1]);
            MultiplyAdd(scores[m][1], query, keys[2], keys[3]);
          }
        }
      }
#pragma unroll
      for (int m = 0; m < kTileRows; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = m * 16 + lane / 4, column = n * 16 + half * 8 + lane % 4 * 2;
          const float(&c)[4] = scores[m][half];
          *reinterpret_cast<float2*>(parts + ElPartAt<kTile>(row, column)) = make_float2(c[0], c[1]);
          *reinterpret_cast<float2*>(parts + ElPartAt<kTile>(row + 8, column)) = make_float2(c[2], c[3]);
        }
      }
    }
  }

  // The lane (query) that this thread's softmax is about in a pass, and its token in the tile.
  __device__ int OwnedLane(int pass) const { return warp_ * kOwned + pass * kAtOnce + lane_ / kTile; }

  __device__ void Softmax(int t) {
    const float* parts = reinterpret_cast<const float*>(DynamicShared() + L::kParts);
    auto* weights = reinterpret_cast<BFloat16*>(DynamicShared() + kWeights) + (t & 1) * kLanes * kTile;
    float* shrinks = reinterpret_cast<float*>(DynamicShared() + kShrinks) + (t & 1) * kLanes;
    const int token = lane_ % kTile;
    const bool valid = t * kTile + token < tokens_;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int row = OwnedLane(pass);
      float score = 0;
#pragma unroll
      for (int w = 0; w < kElWarps; ++w) score += parts[w * kLanes * kTile + ElPartAt<kTile>(row, token)];
      score = valid ? score * kLog2E : MinusInfinity();
      float top = score;
#pragma unroll
      for (int offset = kTile / 2; offset > 0; offset /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, offset));
      top = fmaxf(top, greatest_[pass]);
      const float shrink = Exp2(greatest_[pass] - top);
      // The sum is of what the product multiplies by: the rounded weights.
      const BFloat16 weight = FromFloat<BFloat16>(valid ? Exp2(score - top) : 0.0f);
      greatest_[pass] = top;
      total_[pass] = total_[pass] * shrink + ToFloat(weight);
      weights[WeightAt(row, token)] = weight;
      if (token == 0) shrinks[row] = shrink;
    }
  }
  // bfloat16 [lanes][kTile]: 16-byte pieces of eight rows fall on different banks.
  __device__ static int WeightAt(int row, int token) { return Swizzled<kTile / 8>(row, token / 8) * 8 + token % 8; }

  // sums = sums * shrink + weights tile[:, columns]
  __device__ void AddWeighted(int t, int from, float (&sums)[kTileRows][kColumnTiles][4]) {
    const int lane = Opaque(lane_);
    BFloat16* stage = Stage(from);
    const auto* weights = reinterpret_cast<const BFloat16*>(DynamicShared() + kWeights) + (t & 1) * kLanes * kTile;
    const float* shrinks = reinterpret_cast<const float*>(DynamicShared() + kShrinks) + (t & 1) * kLanes;
    float shrink[kTileRows][2];
    bool shrinks_any = false;
#pragma unroll
    for (int m = 0; m < kTileRows; ++m) {
      shrink[m][0] = shrinks[m * 16 + lane / 4];
      shrink[m][1] = shrinks[m * 16 + 8 + lane / 4];
      shrinks_any |= shrink[m][0] != 1.0f || shrink[m][1] != 1.0f;
    }
    if (__any_sync(~0u, shrinks_any)) {
#pragma unroll
      for (int m = 0; m < kTileRows; ++m) {
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
          sums[m][n][0] *= shrink[m][0];
          sums[m][n][1] *= shrink[m][0];
          sums[m][n][2] *= shrink[m][1];
          sums[m][n][3] *= shrink[m][1];
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) {
      uint32_t a[kTileRows][4];
#pragma unroll
      for (int m = 0; m < kTileRows; ++m) {
        LoadMatrix4(a[m], weights + WeightAt(m * 16 + lane % 16, k * 16 + lane / 16 * 8));
      }
#pragma unroll
      for (int n = 0; n < kColumnTiles; n += 2) {
        uint32_t values[4];
        LoadMatrix4Transposed(values, WarpPiece(stage, k * 16 + lane % 16, n, lane / 16));
#pragma unroll
        for (int m = 0; m < kTileRows; ++m) {
          MultiplyAdd(sums[m][n], a[m], values[0], values[1]);
          MultiplyAdd(sums[m][n + 1], a[m], values[2], values[3]);
        }
      }
    }
  }

  __device__ void Finish(float (&sums)[kTileRows][kColumnTiles][4]) {
    auto* scales = reinterpret_cast<float2*>(DynamicShared() + kScales);
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      float total = total_[pass];
#pragma unroll
      for (int offset = kTile / 2; offset > 0; offset /= 2) total += __shfl_xor_sync(~0u, total, offset);
      if (lane_ % kTile == 0) scales[OwnedLane(pass)] = make_float2(greatest_[pass], total);
    }
    __syncthreads();
    if (Item().splits == 1) {
      WriteOutput(sums, scales);
    } else {
      WritePartial(sums, scales);
    }
  }

  // By way of stage 0, so that whole pieces are written.
  __device__ void WriteOutput(float (&sums)[kTileRows][kColumnTiles][4], const float2* scales) {
    constexpr int kAtATime = kTile < kLanes ? kTile : kLanes;  // rows that a stage holds
    BFloat16* stage = Stage(0);
#pragma unroll
    for (int m = 0; m < kTileRows; ++m) {
      const int g = lane_ / 4;
      const float inverse0 = 1.0f / scales[m * 16 + g].y, inverse1 = 1.0f / scales[m * 16 + 8 + g].y;
      const int base = m * 16 % kAtATime;
      if (base == 0) __syncwarp();
#pragma unroll
      for (int n = 0; n < kColumnTiles; ++n) {
        const int piece = warp_ * L::kWarpPieces + n;
        reinterpret_cast<uint32_t*>(Piece(stage, base + g, piece))[lane_ % 4] =
            PackBFloat16(sums[m][n][0] * inverse0, sums[m][n][1] * inverse0);
        reinterpret_cast<uint32_t*>(Piece(stage, base + g + 8, piece))[lane_ % 4] =
            PackBFloat16(sums[m][n][2] * inverse1, sums[m][n][3] * inverse1);
      }
      if (base + 16 < kAtATime) continue;
      __syncwarp();
      const int first = (m + 1) * 16 - kAtATime;  // of the rows in the stage
      for (int i = lane_; i < kAtATime * L::kWarpPieces; i += 32) {
        const int row = i / L::kWarpPieces, piece = warp_ * L::kWarpPieces + i % L::kWarpPieces;
        if (first + row >= Item().count || piece * 8 >= args_.width) continue;
        BFloat16* to = args_.output + (Item().first + first + row) * int64_t{args_.width} + piece * 8;
        *reinterpret_cast<uint4*>(to) = *Piece(stage, row, piece);
      }
    }
    __syncwarp();
  }

  __device__ void WritePartial(float (&sums)[kTileRows][kColumnTiles][4], const float2* scales) {
    const int64_t first = int64_t{Item().partial} + Item().split * Item().count;
    if (static_cast<int>(threadIdx.x) < Item().count) args_.workspace.scales[first + threadIdx.x] = scales[threadIdx.x];
#pragma unroll
    for (int m = 0; m < kTileRows; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = m * 16 + half * 8 + lane_ / 4;
        float* to = args_.workspace.sums + (first + row) * args_.width;
#pragma unroll
        for (int n = 0; n < kColumnTiles; ++n) {
          const int column = warp_ * L::kWidth + n * 8 + lane_ % 4 * 2;
          if (row >= Item().count || column >= args_.width) continue;
          *reinterpret_cast<float2*>(to + column) = make_float2(sums[m][n][half * 2], sums[m][n][half * 2 + 1]);
        }
      }
    }
    if (!LastArrival(args_.workspace.arrivals + Item().arrival, Item().splits)) return;
    for (int row_in_tile = warp_; row_in_tile < Item().count; row_in_tile += kElWarps) {
      const SplitRows rows = {int64_t{Item().partial} + row_in_tile, Item().count, Item().splits};
      MergeRow(args_.workspace, rows, args_.width, args_.output + (Item().first + row_in_tile) * int64_t{args_.width},
               lane_, 32);
    }
  }

  const AttentionArgs<BFloat16>& args_;
  const int index_;  // of the item; what the loop over tokens does not need is read where it is used
  const int tokens_;
  const int source_;
  const int lane_;
  const int warp_;
  int row_;                  // RowOf the next tile to load
  float greatest_[kPasses];  // of the owned lanes, in units of log2
  float total_[kPasses];     // the weights' sum over this thread's tokens
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_EL_TILE_CUH_
