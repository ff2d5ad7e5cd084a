// A select row's logits [vocab] -> its best tokens after the edits, with their values and log-probabilities.
//
// Two kernels, each with a block for every kChunk logits of every row, so that few rows fill the device too; the cuts
// depend on the vocabulary alone. The first sums: m = max x, l = sum exp(x - m), and whether every logit is a number.
// The second knows the row's log-sum-exp, so it ranks final values: a value is (x - m) - log l for beams (x itself for
// greedy), then the force list, then the edits. Warps pick their best, blocks merge them, and the row's last block
// merges the blocks' lists. Equal values go to the lower token everywhere: a rank is the number of entries before, and
// no two are the same.
//
// Bound by memory: the logits are read twice (the second time from cache), 8 * vocab bytes a row.
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/launch.cuh"
#include "engine/backend/cuda/state.cuh"

namespace elserve::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kEach = 16;  // logits of a thread
constexpr int kChunk = kThreads * kEach;

// (value, token) as one number: the greater value first, of equal values the lower token. 0: no entry.
using Entry = unsigned long long;

// Of a chunk.
struct Sums {
  float greatest;
  float sum;  // of exp(x - greatest)
  int bad;    // some logit is not a number, or +infinity
  int reserved;
};

// A row's part of the workspace: arrivals first, so that it stays where it is whatever the vocabulary.
struct RowWork {
  int32_t* arrivals;
  Sums* sums;      // [chunks]: of the logits
  Sums* edited;    // [chunks]: of the edited values, where they are renormalized
  Entry* entries;  // [chunks, kMaxCandidates]
};

int64_t RowBytes(int chunks) {
  return 16 + int64_t{chunks} *
                  (2 * static_cast<int64_t>(sizeof(Sums)) + kMaxCandidates * static_cast<int64_t>(sizeof(Entry)));
}

struct SelectArgs {
  SelectKernelArgs args;
  int chunks;
  int64_t row_bytes;
};

__device__ RowWork WorkOf(const SelectArgs& select, int row) {
  char* at = static_cast<char*>(select.args.workspace) + row * select.row_bytes;
  RowWork work;
  work.arrivals = reinterpret_cast<int32_t*>(at);
  work.sums = reinterpret_cast<Sums*>(at + 16);
  work.edited = work.sums + select.chunks;
  work.entries = reinterpret_cast<Entry*>(work.edited + select.chunks);
  return work;
}

__device__ float Logit(const SelectKernelArgs& args, int row, int token) {
  return args.logits[row * args.logits_stride + token];
}

__device__ Entry EntryOf(float value, int token) {
  const unsigned bits = __float_as_uint(value + 0.0f);  // -0 is as good as 0
  const unsigned ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<Entry>(ordered) << 32 | static_cast<unsigned>(~token);
}
__device__ float ValueOf(Entry entry) {
  const auto ordered = static_cast<unsigned>(entry >> 32);
  return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}
__device__ int TokenOf(Entry entry) { return static_cast<int>(~static_cast<unsigned>(entry)); }

struct Shared {
  float values[kChunk];
  float reduced[kWarps];
  Entry lists[kWarps * kMaxCandidates];
  Entry best[kMaxCandidates];
  int last;
};

// Sums of the block's values, one array of kEach a thread; -infinity where there is none.
__device__ Sums SumBlock(const float (&x)[kEach], float* reduced) {
  float greatest = MinusInfinity();
  int bad = 0;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    greatest = fmaxf(greatest, x[i]);
    bad |= !(x[i] <= 3.402823466e+38f);
  }
  for (int offset = 16; offset > 0; offset /= 2) greatest = fmaxf(greatest, __shfl_xor_sync(~0u, greatest, offset));
  if (threadIdx.x % 32 == 0) reduced[threadIdx.x / 32] = greatest;
  bad = __syncthreads_or(bad);
  for (int warp = 0; warp < kWarps; ++warp) greatest = fmaxf(greatest, reduced[warp]);
  __syncthreads();
  float sum = 0;
  if (greatest != MinusInfinity()) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) sum += expf(x[i] - greatest);
  }
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(~0u, sum, offset);
  if (threadIdx.x % 32 == 0) reduced[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += reduced[warp];
  __syncthreads();
  return {greatest, sum, bad, 0};
}

__global__ void __launch_bounds__(kThreads) SelectSumsKernel(const __grid_constant__ SelectArgs select) {
  float* const reduced = StaticShared<float[kWarps]>();
  const SelectKernelArgs& args = select.args;
  const int chunk = static_cast<int>(blockIdx.x), row = static_cast<int>(blockIdx.y);
  if (args.items[row].count == 0) return;
  float x[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int token = chunk * kChunk + i * kThreads + static_cast<int>(threadIdx.x);
    x[i] = token < args.vocab ? Logit(args, row, token) : MinusInfinity();
  }
  const Sums sums = SumBlock(x, reduced);
  if (threadIdx.x == 0) WorkOf(select, row).sums[chunk] = sums;
}

// The chunks' sums together, in their order: {m, log l}; bad also where no logit is finite.
struct LogSum {
  float greatest;
  float log_sum;
  bool bad;
};
__device__ LogSum Combined(const Sums* sums, int chunks) {
  LogSum all = {MinusInfinity(), 0, false};
  for (int c = 0; c < chunks; ++c) {
    all.greatest = fmaxf(all.greatest, __ldcg(&sums[c].greatest));
    all.bad |= __ldcg(&sums[c].bad) != 0;
  }
  if (all.greatest == MinusInfinity()) return {all.greatest, 0, true};
  float sum = 0;
  for (int c = 0; c < chunks; ++c) sum += __ldcg(&sums[c].sum) * expf(__ldcg(&sums[c].greatest) - all.greatest);
  all.log_sum = logf(sum);
  return all;
}

__device__ float Edited(float x, const LogitEdit& edit) {
  if (edit.ban || x == MinusInfinity()) return MinusInfinity();
  x += edit.add;
  return x < 0 ? x * edit.negative : x * edit.positive;
}

// The chunk's values with force list and edits, in shared memory.
__device__ void EditValues(const SelectKernelArgs& args, const LogSum& all, int chunk, int row, float* values) {
  const SelectItem& item = args.items[row];
  const int begin = chunk * kChunk, end = min(args.vocab, begin + kChunk);
  const bool logprobs = item.space == static_cast<int32_t>(SelectSpace::kLogProbs), forced = item.force_count > 0;
  for (int i = static_cast<int>(threadIdx.x); i < kChunk; i += kThreads) {
    float value = MinusInfinity();
    if (!forced && begin + i < end) {
      value = Logit(args, row, begin + i);
      if (logprobs) value = value - all.greatest - all.log_sum;
    }
    values[i] = value;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < item.force_count; i += kThreads) {
    const int token = args.force[item.force_begin + i];
    if (token >= begin && token < end) values[token - begin] = 0;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < item.edits_count; i += kThreads) {
    const LogitEdit edit = args.edits[item.edits_begin + i];
    if (edit.token >= begin && edit.token < end) values[edit.token - begin] = Edited(values[edit.token - begin], edit);
  }
  __syncthreads();
}

// The `count` best of the warp's values, best first, into `list`; 0 where there are not as many.
__device__ void WarpBest(const float* values, int begin, int vocab, int count, Entry* list) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  unsigned ordered[kEach];  // the upper half of an entry
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = warp * 32 * kEach + i * 32 + lane;
    ordered[i] = begin + at < vocab ? static_cast<unsigned>(EntryOf(values[at], 0) >> 32) : 0;
  }
  for (int n = 0; n < count; ++n) {
    // Within a lane a lower i is a lower token.
    unsigned best = 0;
    int at = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (ordered[i] > best) {
        best = ordered[i];
        at = i;
      }
    }
    const unsigned top = __reduce_max_sync(~0u, best);
    const auto place = static_cast<unsigned>(at * 32 + lane);
    const unsigned chosen = __reduce_min_sync(~0u, best == top ? place : ~0u);
    if (lane == 0) {
      const int token = begin + warp * 32 * kEach + static_cast<int>(chosen);
      list[n] = top == 0 ? 0 : static_cast<Entry>(top) << 32 | static_cast<unsigned>(~token);
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (static_cast<unsigned>(i * 32 + lane) == chosen) ordered[i] = 0;
    }
  }
}

// How many entries of `lists` sorted lists of `length` stand before `entry`, counted up to `most`.
__device__ int RankOf(Entry entry, const Entry* entries, int lists, int length, int most) {
  int rank = 0;
  for (int l = 0; l < lists && rank < most; ++l) {
    for (int i = 0; i < length && entries[l * length + i] > entry; ++i) ++rank;
  }
  return rank;
}

// The `count` best of `lists` sorted lists of `length`, in shared.best.
__device__ void Merge(const Entry* entries, int lists, int length, int count, Entry* best) {
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) best[i] = 0;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < lists * length; i += kThreads) {
    const Entry entry = entries[i];
    if (entry == 0) continue;
    const int rank = RankOf(entry, entries, lists, length, count);
    if (rank < count) best[rank] = entry;
  }
  __syncthreads();
}

// The row's answer from all chunks' lists.
__device__ void Finish(const SelectArgs& select, const LogSum& all, int row, int count, Shared& shared) {
  const SelectKernelArgs& args = select.args;
  const RowWork work = WorkOf(select, row);
  Merge(work.entries, select.chunks, count, count, shared.best);
  LogSum edited = {0, 0, true};
  if (args.items[row].renormalize != 0) edited = Combined(work.edited, select.chunks);
  // Where nothing is allowed, nothing is made likely. Rounding may make values equal: they are ranked once more.
  Entry entry = 0;
  if (static_cast<int>(threadIdx.x) < count) {
    entry = shared.best[threadIdx.x];
    if (!edited.bad) entry = EntryOf(ValueOf(entry) - edited.greatest - edited.log_sum, TokenOf(entry));
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < count) shared.best[threadIdx.x] = entry;
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < count) {
    int rank = 0;
    for (int i = 0; i < count; ++i) rank += shared.best[i] > entry ? 1 : 0;
    const int token = TokenOf(entry);
    args.candidates[row * kMaxCandidates + rank] = {
        .token = token, .value = ValueOf(entry), .logprob = Logit(args, row, token) - all.greatest - all.log_sum};
  }
  if (threadIdx.x == 0) args.status[row] = count;
}

__global__ void __launch_bounds__(kThreads) SelectBestKernel(const __grid_constant__ SelectArgs select) {
  Shared& shared = StaticShared<Shared>();
  const SelectKernelArgs& args = select.args;
  const int chunk = static_cast<int>(blockIdx.x), row = static_cast<int>(blockIdx.y);
  const SelectItem& item = args.items[row];
  const int count = min(item.count, args.vocab);
  if (count == 0) {
    if (chunk == 0 && threadIdx.x == 0) args.status[row] = 0;
    return;
  }
  const RowWork work = WorkOf(select, row);
  const LogSum all = Combined(work.sums, select.chunks);
  if (all.bad) {
    if (chunk == 0 && threadIdx.x == 0) args.status[row] = -1;
    return;
  }
  EditValues(args, all, chunk, row, shared.values);
  if (item.renormalize != 0) {
    float x[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) x[i] = shared.values[i * kThreads + threadIdx.x];
    const Sums sums = SumBlock(x, shared.reduced);
    if (threadIdx.x == 0) work.edited[chunk] = {sums.greatest, sums.sum, 0, 0};
  }
  WarpBest(shared.values, chunk * kChunk, args.vocab, count, shared.lists + threadIdx.x / 32 * count);
  __syncthreads();
  Merge(shared.lists, kWarps, count, count, shared.best);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    work.entries[chunk * count + i] = shared.best[i];
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.last = atomicAdd(work.arrivals, 1) == select.chunks - 1 ? 1 : 0;
    if (shared.last != 0) *work.arrivals = 0;
  }
  __syncthreads();
  if (shared.last == 0) return;
  __threadfence();
  Finish(select, all, row, count, shared);
}

int Chunks(int vocab) { return CeilDiv(vocab, kChunk); }

}  // namespace

int64_t SelectWorkspaceBytes(int rows, int vocab) { return rows * RowBytes(Chunks(vocab)); }

cudaError_t LaunchSelect(const SelectKernelArgs& args, cudaStream_t stream) {
  const SelectArgs select = {.args = args, .chunks = Chunks(args.vocab), .row_bytes = RowBytes(Chunks(args.vocab))};
  const dim3 grid(select.chunks, args.rows);
  const cudaError_t error = Launch(SelectSumsKernel, grid, dim3(kThreads), 0, stream, select);
  return error != cudaSuccess ? error : Launch(SelectBestKernel, grid, dim3(kThreads), 0, stream, select);
}

}  // namespace elserve::cuda
