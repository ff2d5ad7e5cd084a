// Attention of every kind for every shape, by plain multiplications: float32, bfloat16 of odd widths, and whatever has
// biases.
//
// For each query q_r of a tile and its tokens t: s_rt = q_r . k_t + b_rt, o_r = sum_t softmax_t(s_rt) v_t. EL: k = v =
// a token's states, width d, the queries are lanes. K/V and encoder: a head's keys and values, width head_dim.
//
// A block of 8 warps takes 32 queries and goes through the tokens by tiles of 32. Scores: keys and queries come through
// shared memory in pieces of 32 columns; a warp has 4 queries, a lane one token. Weighted sums: a lane has columns
// lane, lane + 32, ... of the warp's 4 queries in registers, and reads values straight from the first-level cache,
// which the 8 warps share. Bound by the multipliers: 4 * 32 * 32 * width operations a tile against 32 * width values of
// traffic.
#include "engine/backend/cuda/attention.cuh"
#include "engine/backend/cuda/launch.cuh"

namespace elserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kQueries = 32;
constexpr int kEach = kQueries / (kThreads / 32);  // queries of a warp
constexpr int kTokens = 32;
constexpr int kPiece = 32;
// Columns of a lane at once, a state's or a head's; wider ones are done in turns.
constexpr int kMaxStateColumns = 16;
constexpr int kMaxHeadColumns = 4;
constexpr float kLeast = -3.402823466e38f;

enum class Source { kElPages, kKeyValuePages, kElCells, kKeyValueCells, kEncoder };

template <typename T>
struct PlainArgs {
  const T* query;
  int64_t query_stride;
  T* output;
  int64_t output_stride;
  const T* memory;        // pages, cells, or qkv
  int64_t memory_stride;  // of a row, where rows are whole
  const int32_t* list;    // pages or cells
  int heads;
  int width;
  const void* items;
  const int32_t* items_count;
  AttentionWorkspace workspace;
  ScoreBias bias;
};

// One tile of queries over one split, for one head where heads differ.
struct Task {
  int first;
  int count;
  int source;
  int tokens;
  int begin;  // tokens before the split
  int head;
};

struct Shared {
  float queries[kQueries][kPiece];
  float keys[kTokens][kPiece + 1];
  float weights[kQueries][kTokens];
  int64_t query_at[kQueries];
  int64_t key_at[kTokens];
};

__host__ __device__ constexpr bool IsEl(Source source) {
  return source == Source::kElPages || source == Source::kElCells;
}

// Where row r of the task begins in a tensor of queries or outputs.
template <Source kSource, typename T>
__device__ int64_t RowAt(const PlainArgs<T>& args, const Task& task, int r, int64_t stride) {
  if (!IsEl(kSource)) return (task.first + r) * stride + int64_t{task.head} * args.width;
  const int lane = task.first + r;
  return lane / args.heads * stride + int64_t{lane % args.heads} * args.width;
}

template <Source kSource, typename T>
__device__ int64_t KeyAt(const PlainArgs<T>& args, const Task& task, int token) {
  const int64_t head = task.head;
  if constexpr (kSource == Source::kEncoder) {
    return (task.source + token) * args.memory_stride + (args.heads + head) * args.width;
  } else if constexpr (kSource == Source::kElCells || kSource == Source::kKeyValueCells) {
    return args.list[task.source + token] * args.memory_stride + (IsEl(kSource) ? 0 : head * args.width);
  } else {
    const int64_t page = args.list[task.source + token / kPageTokens];
    const int place = token % kPageTokens;
    if constexpr (kSource == Source::kElPages) return (page * kPageTokens + place) * args.memory_stride;
    return ((page * 2 * args.heads + head) * kPageTokens + place) * args.width;
  }
}

// What is added to the score of row r of the task and its token.
template <Source kSource, typename T>
__device__ float BiasOf(const PlainArgs<T>& args, const Task& task, int r, int token) {
  const ScoreBias& bias = args.bias;
  const int row = task.first + r;
  const int position = IsEl(kSource) ? row / args.heads : row;
  const int64_t head = IsEl(kSource) ? row % args.heads : task.head;
  if constexpr (kSource == Source::kElPages || kSource == Source::kKeyValuePages) {
    if (bias.values == nullptr) return 0;
    const DocumentBias document = bias.documents[position];
    return document.begin < 0 ? 0.0f : bias.values[document.begin + head * document.length + task.begin + token];
  } else {
    if (bias.table == nullptr) return 0;
    const int query = kSource == Source::kEncoder ? row - task.source : bias.position_ids[position];
    return bias.table[head * bias.distances + task.begin + token - query + bias.zero];
  }
}

// From a token's key to its value.
template <Source kSource, typename T>
__device__ int64_t ValueOffset(const PlainArgs<T>& args) {
  if (IsEl(kSource)) return 0;
  if (kSource == Source::kKeyValuePages) return int64_t{args.heads} * kPageTokens * args.width;
  return int64_t{args.heads} * args.width;
}

// Scores of the warp's queries with the lane's token.
template <typename T>
__device__ void Scores(const PlainArgs<T>& args, int queries, int tokens, Shared& shared, float (&scores)[kEach]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int row = static_cast<int>(threadIdx.x) / 8, column = static_cast<int>(threadIdx.x) % 8 * 4;
#pragma unroll
  for (float& score : scores) score = 0;
  for (int begin = 0; begin < args.width; begin += kPiece) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = begin + column + i;
      const bool in_width = at < args.width;
      shared.queries[row][column + i] =
          in_width && row < queries ? ToFloat(args.query[shared.query_at[row] + at]) : 0.0f;
      shared.keys[row][column + i] = in_width && row < tokens ? ToFloat(args.memory[shared.key_at[row] + at]) : 0.0f;
    }
    __syncthreads();
#pragma unroll 8
    for (int k = 0; k < kPiece; ++k) {
      const float key = shared.keys[lane][k];
#pragma unroll
      for (int j = 0; j < kEach; ++j) scores[j] += shared.queries[warp * kEach + j][k] * key;
    }
  }
}

// Columns [begin, begin + 32 * kColumns) of the task's results: written, or left as partial rows when `splits` > 1.
template <typename T, Source kSource, int kColumns>
__device__ void RunColumns(const PlainArgs<T>& args, const Task& task, int begin, Shared& shared,
                           const SplitRows* split) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t value_offset = ValueOffset<kSource>(args);
  float sums[kEach][kColumns] = {};
  float greatest[kEach], total[kEach] = {};
#pragma unroll
  for (float& value : greatest) value = MinusInfinity();

  for (int at = 0; at < task.tokens; at += kTokens) {
    const int tokens = min(kTokens, task.tokens - at);
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < tokens) {
      shared.key_at[threadIdx.x] = KeyAt<kSource>(args, task, at + static_cast<int>(threadIdx.x));
    }
    float scores[kEach];
    Scores(args, task.count, tokens, shared, scores);
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int r = warp * kEach + j;
      const bool biased = lane < tokens && r < task.count;
      const float bias = biased ? BiasOf<kSource>(args, task, r, at + lane) : 0.0f;
      const float score = lane < tokens ? (scores[j] + bias) * kLog2E : MinusInfinity();
      float top = score;
      for (int offset = 16; offset > 0; offset /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, offset));
      // Not -infinity, which biases may make of all tokens so far: it has no distance to itself.
      top = fmaxf(fmaxf(top, greatest[j]), kLeast);
      const float shrink = exp2f(greatest[j] - top);
      const float weight = lane < tokens ? exp2f(score - top) : 0.0f;
      greatest[j] = top;
      total[j] = total[j] * shrink + weight;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sums[j][c] *= shrink;
      shared.weights[warp * kEach + j][lane] = weight;
    }
    __syncwarp();
    for (int t = 0; t < tokens; ++t) {
      const T* values = args.memory + shared.key_at[t] + value_offset;
      float weights[kEach];
#pragma unroll
      for (int j = 0; j < kEach; ++j) weights[j] = shared.weights[warp * kEach + j][t];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int column = begin + c * 32 + lane;
        const float value = column < args.width ? ToFloat(values[column]) : 0.0f;
#pragma unroll
        for (int j = 0; j < kEach; ++j) sums[j][c] += weights[j] * value;
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const int r = warp * kEach + j;
    for (int offset = 16; offset > 0; offset /= 2) total[j] += __shfl_xor_sync(~0u, total[j], offset);
    if (r >= task.count) continue;
    const int64_t partial = split == nullptr ? 0 : split->first + r * split->step;
    if (split != nullptr && lane == 0) args.workspace.scales[partial] = make_float2(greatest[j], total[j]);
    const int64_t output = RowAt<kSource>(args, task, r, args.output_stride);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int column = begin + c * 32 + lane;
      if (column >= args.width) continue;
      if (split == nullptr) {
        args.output[output + column] = FromFloat<T>(sums[j][c] / total[j]);
      } else {
        args.workspace.sums[partial * args.width + column] = sums[j][c];
      }
    }
  }
}

template <typename T, Source kSource, int kColumns>
__device__ void RunTask(const PlainArgs<T>& args, const Task& task, Shared& shared, const SplitRows* split) {
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < task.count) {
    shared.query_at[threadIdx.x] = RowAt<kSource>(args, task, static_cast<int>(threadIdx.x), args.query_stride);
  }
  for (int begin = 0; begin < args.width; begin += 32 * kColumns) {
    RunColumns<T, kSource, kColumns>(args, task, begin, shared, split);
  }
}

template <typename T, Source kSource, int kColumns>
__device__ void RunSplit(const PlainArgs<T>& args, const AttentionItem& item, int head, Shared& shared) {
  const Task task = {item.first, item.count, item.source, item.tokens, item.begin, head};
  if (item.splits == 1) {
    RunTask<T, kSource, kColumns>(args, task, shared, nullptr);
    return;
  }
  // Partial rows of this split, then of row 0 in all splits.
  const int heads = IsEl(kSource) ? 1 : args.heads;
  const SplitRows own = {(int64_t{item.partial} + item.split * item.count) * heads + head, heads, 1};
  RunTask<T, kSource, kColumns>(args, task, shared, &own);
  if (!LastArrival(args.workspace.arrivals + int64_t{item.arrival} * heads + head, item.splits)) return;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < item.count; r += kThreads / 32) {
    const SplitRows rows = {(int64_t{item.partial} + r) * heads + head, int64_t{item.count} * heads, item.splits};
    MergeRow(args.workspace, rows, args.width, args.output + RowAt<kSource>(args, task, r, args.output_stride),
             static_cast<int>(threadIdx.x) % 32, 32);
  }
}

template <typename T, Source kSource, int kColumns>
__global__ void __launch_bounds__(kThreads, kColumns > 8 ? 1 : 2) PlainAttentionKernel(PlainArgs<T> args) {
  Shared& shared = StaticShared<Shared>();
  const int heads = IsEl(kSource) ? 1 : args.heads;
  const int64_t count = int64_t{*args.items_count} * heads;
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const int head = static_cast<int>(i % heads);
    if constexpr (kSource == Source::kEncoder) {
      const EncodeItem item = static_cast<const EncodeItem*>(args.items)[i / heads];
      for (int at = 0; at < item.count; at += kQueries) {
        RunTask<T, kSource, kColumns>(
            args, {item.first + at, min(kQueries, item.count - at), item.begin, item.length, 0, head}, shared, nullptr);
      }
    } else {
      RunSplit<T, kSource, kColumns>(args, static_cast<const AttentionItem*>(args.items)[i / heads], head, shared);
    }
  }
}

template <typename T, Source kSource>
cudaError_t LaunchSource(const PlainArgs<T>& args, int max_items, const Device& device, cudaStream_t stream) {
  const int columns = CeilDiv(args.width, 32);
  auto kernel = PlainAttentionKernel<T, kSource, 1>;
  int blocks_each = 4;
  if constexpr (IsEl(kSource)) {
    if (columns > 8) {
      kernel = PlainAttentionKernel<T, kSource, kMaxStateColumns>;
      blocks_each = 1;
    } else if (columns > 1) {
      kernel = PlainAttentionKernel<T, kSource, 8>;
      blocks_each = 2;
    }
  } else if (columns > 1) {
    kernel = PlainAttentionKernel<T, kSource, kMaxHeadColumns>;
    blocks_each = 4;
  }
  const int64_t tasks = int64_t{max_items} * (IsEl(kSource) ? 1 : args.heads);
  const auto grid = static_cast<unsigned>(min(tasks, int64_t{device.processors} * blocks_each));
  return Launch(kernel, dim3(grid), dim3(kThreads), 0, stream, args);
}

template <Source kElSource, Source kKeyValueSource, typename T>
cudaError_t LaunchDecode(const DecodeAttentionKernelArgs& args, cudaStream_t stream) {
  const AttentionArgs<T> typed = ArgsOf<T>(args);
  const PlainArgs<T> plain = {.query = typed.query,
                              .query_stride = typed.query_stride,
                              .output = typed.output,
                              .output_stride = StrideOf<T>(int64_t{args.heads} * typed.width),
                              .memory = typed.memory,
                              .memory_stride = StrideOf<T>(args.el ? args.d : int64_t{2} * args.heads * args.head_dim),
                              .list = typed.list,
                              .heads = typed.heads,
                              .width = typed.width,
                              .items = typed.items,
                              .items_count = typed.items_count,
                              .workspace = typed.workspace,
                              .bias = args.bias};
  return args.el ? LaunchSource<T, kElSource>(plain, args.work.max_items, args.device, stream)
                 : LaunchSource<T, kKeyValueSource>(plain, args.work.max_items, args.device, stream);
}

template <typename T>
cudaError_t LaunchEncoder(const EncoderAttentionKernelArgs& args, cudaStream_t stream) {
  const int64_t inner = int64_t{args.heads} * args.head_dim;
  const PlainArgs<T> plain = {.query = static_cast<const T*>(args.qkv),
                              .query_stride = StrideOf<T>(3 * inner),
                              .output = static_cast<T*>(args.output),
                              .output_stride = StrideOf<T>(inner),
                              .memory = static_cast<const T*>(args.qkv),
                              .memory_stride = StrideOf<T>(3 * inner),
                              .list = nullptr,
                              .heads = args.heads,
                              .width = args.head_dim,
                              .items = args.items,
                              .items_count = args.items_count,
                              .workspace = {},
                              .bias = args.bias};
  return LaunchSource<T, Source::kEncoder>(plain, args.max_items, args.device, stream);
}

}  // namespace

cudaError_t LaunchPlainCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream) {
  if (args.type == DataType::kFloat32)
    return LaunchDecode<Source::kElPages, Source::kKeyValuePages, float>(args, stream);
  return LaunchDecode<Source::kElPages, Source::kKeyValuePages, BFloat16>(args, stream);
}

cudaError_t LaunchPlainSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream) {
  if (args.type == DataType::kFloat32)
    return LaunchDecode<Source::kElCells, Source::kKeyValueCells, float>(args, stream);
  return LaunchDecode<Source::kElCells, Source::kKeyValueCells, BFloat16>(args, stream);
}

cudaError_t LaunchPlainEncoderAttention(const EncoderAttentionKernelArgs& args, cudaStream_t stream) {
  return args.type == DataType::kFloat32 ? LaunchEncoder<float>(args, stream) : LaunchEncoder<BFloat16>(args, stream);
}

}  // namespace elserve::cuda
