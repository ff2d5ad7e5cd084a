// What the attention kernels share: how a tile's splits become one result.
//
// A split leaves, for each row, m (the greatest score, times log2(e)), l (the sum of 2^(score - m)) and o (the sum of
// weighted values, not divided). With M = max m_s the result is sum_s 2^(m_s - M) o_s / sum_s 2^(m_s - M) l_s, over the
// splits in their order: exact but for rounding, and the same whichever block comes last.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_ATTENTION_CUH_
#define ELSERVE_ENGINE_BACKEND_CUDA_ATTENTION_CUH_

#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/state.cuh"

namespace elserve::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;

// Called by all threads of a block that has written its partial rows: whether all other splits of the tile have done
// so before. The counter is zero again after the last.
__device__ __forceinline__ bool LastArrival(int32_t* counter, int splits) {
  int& last = StaticShared<int>();
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(counter, 1) == splits - 1;
    if (last) *counter = 0;
  }
  __syncthreads();
  const bool result = last != 0;
  if (result) __threadfence();
  return result;
}

// One row of a tile in splits: its partial rows are first, first + step, ...
struct SplitRows {
  int64_t first;
  int64_t step;
  int splits;
};

// Merges a row of `width` into `output`; called by a warp, or by some lanes of it: `lane` of `lanes`.
template <typename T>
__device__ void MergeRow(const AttentionWorkspace& workspace, const SplitRows& rows, int width, T* output, int lane,
                         int lanes) {
  float greatest = MinusInfinity(), total = 0;
  for (int s = 0; s < rows.splits; ++s)
    greatest = fmaxf(greatest, __ldcg(&workspace.scales[rows.first + s * rows.step]).x);
  for (int s = 0; s < rows.splits; ++s) {
    const float2 scale = __ldcg(&workspace.scales[rows.first + s * rows.step]);
    total += Exp2(scale.x - greatest) * scale.y;
  }
  const float inverse = 1.0f / total;
  if (width % 4 == 0) {
    for (int i = 4 * lane; i < width; i += 4 * lanes) {
      float4 sum = make_float4(0, 0, 0, 0);
      for (int s = 0; s < rows.splits; ++s) {
        const int64_t row = rows.first + s * rows.step;
        const float weight = Exp2(__ldcg(&workspace.scales[row]).x - greatest);
        const float4 part = __ldcg(reinterpret_cast<const float4*>(workspace.sums + row * width + i));
        sum = make_float4(sum.x + weight * part.x, sum.y + weight * part.y, sum.z + weight * part.z,
                          sum.w + weight * part.w);
      }
      sum = make_float4(sum.x * inverse, sum.y * inverse, sum.z * inverse, sum.w * inverse);
      Store4(output + i, sum);
    }
    return;
  }
  for (int i = lane; i < width; i += lanes) {
    float sum = 0;
    for (int s = 0; s < rows.splits; ++s) {
      const int64_t row = rows.first + s * rows.step;
      sum += Exp2(__ldcg(&workspace.scales[row]).x - greatest) * __ldcg(&workspace.sums[row * width + i]);
    }
    output[i] = FromFloat<T>(sum * inverse);
  }
}

// Where 16-byte piece `piece` of row `row` lies in a shared tile whose rows have kPieces pieces: rows that a matrix
// load reads together (eight, one piece each) fall on different banks.
template <int kPieces>
__device__ __forceinline__ int Swizzled(int row, int piece) {
  static_assert(kPieces == 2 || kPieces == 4 || kPieces % 8 == 0);
  if constexpr (kPieces % 8 == 0) return row * kPieces + (piece ^ (row & 7));
  constexpr int kRowsApart = kPieces == 4 ? 2 : 4;  // that fill all banks together
  return row * kPieces + (piece ^ (row / kRowsApart & (kPieces - 1)));
}

// Whether the kernels for tensor cores can run: bfloat16, rows and heads of whole 16-byte pieces.
inline bool FitsTensorCores(DataType type, int width) { return type == DataType::kBFloat16 && width % 8 == 0; }

// A DecodeAttentionKernelArgs as the kernels read it.
template <typename T>
struct AttentionArgs {
  const T* query;        // [rows, heads * width]
  int64_t query_stride;  // heads * width but of self-attention's q, k and v
  T* output;             // [rows, heads * width]
  const T* memory;
  const int32_t* list;
  int heads;
  int width;  // el: d; kv: head_dim
  const AttentionItem* items;
  const int32_t* items_count;
  AttentionWorkspace workspace;
};
template <typename T>
AttentionArgs<T> ArgsOf(const DecodeAttentionKernelArgs& args) {
  return {.query = static_cast<const T*>(args.query),
          .query_stride = args.query_stride,
          .output = static_cast<T*>(args.output),
          .memory = static_cast<const T*>(args.memory),
          .list = args.work.list,
          .heads = args.heads,
          .width = args.el ? args.d : args.head_dim,
          .items = args.work.items,
          .items_count = args.work.items_count,
          .workspace = args.workspace};
}

// The launchers of the forms, among which attention.cu chooses. Each returns false where the shape or
// the device does not fit it.
bool LaunchElCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error);
bool LaunchElSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error);
bool LaunchKeyValueCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error);
bool LaunchKeyValueSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error);
bool LaunchTensorEncoderAttention(const EncoderAttentionKernelArgs& args, cudaStream_t stream, cudaError_t* error);
// Any shape and type.
cudaError_t LaunchPlainCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream);
cudaError_t LaunchPlainSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream);
cudaError_t LaunchPlainEncoderAttention(const EncoderAttentionKernelArgs& args, cudaStream_t stream);

// A kernel for several widths is an array of instances, narrowest first, each with `max_width`, `shared_bytes`
// (dynamic) and `kernel`. The first that takes the width and fits the device; null: none.
template <typename Instance, int kCount>
const Instance* FirstFit(const Instance (&instances)[kCount], int width, const Device& device) {
  for (const Instance& instance : instances) {
    if (width <= instance.max_width && instance.shared_bytes <= device.shared_bytes) return &instance;
  }
  return nullptr;
}

// Blocks of so much shared memory that run on a multiprocessor at once: at least 1, and at most `most`, by registers. A
// block's share has 1 KiB more than it asks for.
inline int BlocksEach(int shared_bytes, int most, const Device& device) {
  return max(1, min(most, device.shared_bytes_each / (shared_bytes + 1024)));
}

// Lets those of a kernel's instances that fit the device have the dynamic shared memory that they ask for.
template <typename Instance, int kCount>
cudaError_t AllowShared(const Instance (&instances)[kCount], const Device& device) {
  for (const Instance& instance : instances) {
    if (instance.shared_bytes > device.shared_bytes) continue;
    const cudaError_t error =
        cudaFuncSetAttribute(instance.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, instance.shared_bytes);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// Once for each device.
cudaError_t PrepareElAttention(const Device& device);
cudaError_t PrepareKeyValueCrossAttention(const Device& device);
cudaError_t PrepareEncoderAttention(const Device& device);

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_ATTENTION_CUH_
