// Rows of states to where they are read: encoder states into pages, decoder states into cells, and the select rows'
// states side by side. Copies of 16 bytes a thread where rows allow it, bound by memory; a block a row.
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/launch.cuh"
#include "engine/backend/cuda/state.cuh"

namespace elserve::cuda {
namespace {

constexpr int kThreads = 128;

// to[to_rows[r]] = from[from_rows[r]], rows of `pieces`, from_stride and to_stride apart; null: row r; -1: none.
template <typename Piece>
__global__ void __launch_bounds__(kThreads)
    CopyRowsKernel(const Piece* from, int64_t from_stride, const int32_t* from_rows, Piece* to, int64_t to_stride,
                   const int32_t* to_rows, int pieces) {
  const int row = static_cast<int>(blockIdx.x);
  const int64_t source = from_rows == nullptr ? row : from_rows[row];
  const int64_t target = to_rows == nullptr ? row : to_rows[row];
  if (source < 0 || target < 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < pieces; i += kThreads) {
    to[target * to_stride + i] = from[source * from_stride + i];
  }
}

struct RowsCopy {
  const void* from;
  int64_t from_stride;  // bytes
  const int32_t* from_rows;
  void* to;
  int64_t to_stride;  // bytes
  const int32_t* to_rows;
  int rows;
  int64_t bytes;  // of a row; it, the strides and the addresses are multiples of a Piece
};

template <typename Piece>
cudaError_t LaunchCopyRows(const RowsCopy& copy, cudaStream_t stream) {
  constexpr int64_t kSize = sizeof(Piece);
  return Launch(CopyRowsKernel<Piece>, dim3(copy.rows), dim3(kThreads), 0, stream, static_cast<const Piece*>(copy.from),
                copy.from_stride / kSize, copy.from_rows, static_cast<Piece*>(copy.to), copy.to_stride / kSize,
                copy.to_rows, static_cast<int>(copy.bytes / kSize));
}

// A row [2][heads][head_dim] into its page's [2][heads][64][head_dim], in pieces of a Piece; `piece_count`: of a head.
template <typename Piece>
__global__ void __launch_bounds__(kThreads)
    StoreKeysAndValuesKernel(const Piece* rows, int64_t stride, const int32_t* slots, Piece* pages, int heads,
                             int piece_count) {
  const int slot = slots[blockIdx.x];
  if (slot < 0) return;
  const Piece* row = rows + blockIdx.x * stride;
  Piece* page = pages + static_cast<int64_t>(slot / kPageTokens) * 2 * heads * kPageTokens * piece_count;
  const int place = slot % kPageTokens;
  for (int i = static_cast<int>(threadIdx.x); i < 2 * heads * piece_count; i += kThreads) {
    const int head = i / piece_count;  // keys' heads, then values'
    page[(static_cast<int64_t>(head) * kPageTokens + place) * piece_count + i % piece_count] = row[i];
  }
}

template <typename Piece>
cudaError_t LaunchStoreKeysAndValues(const StoreEncoderKernelArgs& args, cudaStream_t stream) {
  const int64_t size = SizeOf(args.type), per_piece = static_cast<int64_t>(sizeof(Piece)) / size;
  const int64_t stride = RowStride(int64_t{2} * args.heads * args.head_dim, args.type) / per_piece;
  return Launch(StoreKeysAndValuesKernel<Piece>, dim3(args.positions), dim3(kThreads), 0, stream,
                static_cast<const Piece*>(args.states), stride, args.token_slots, static_cast<Piece*>(args.pages),
                args.heads, static_cast<int>(args.head_dim / per_piece));
}

}  // namespace

cudaError_t LaunchStoreEncoder(const StoreEncoderKernelArgs& args, cudaStream_t stream) {
  if (args.el) {
    const int64_t bytes = RowStride(args.d, args.type) * SizeOf(args.type);
    return LaunchCopyRows<uint4>({.from = args.states,
                                  .from_stride = bytes,
                                  .from_rows = nullptr,
                                  .to = args.pages,
                                  .to_stride = bytes,
                                  .to_rows = args.token_slots,
                                  .rows = args.positions,
                                  .bytes = bytes},
                                 stream);
  }
  if (args.head_dim * SizeOf(args.type) % 16 == 0) return LaunchStoreKeysAndValues<uint4>(args, stream);
  return args.type == DataType::kFloat32 ? LaunchStoreKeysAndValues<float>(args, stream)
                                         : LaunchStoreKeysAndValues<BFloat16>(args, stream);
}

cudaError_t LaunchStoreCells(const StoreCellsKernelArgs& args, cudaStream_t stream) {
  const int64_t size = SizeOf(args.type), begin = args.column * size;
  const RowsCopy copy = {.from = static_cast<const std::byte*>(args.states) + begin,
                         .from_stride = RowStride(args.column + args.width, args.type) * size,
                         .from_rows = nullptr,
                         .to = args.memory,
                         .to_stride = RowStride(args.width, args.type) * size,
                         .to_rows = args.cells,
                         .rows = args.rows,
                         .bytes = args.width * size};
  if (begin % 16 == 0 && copy.bytes % 16 == 0) return LaunchCopyRows<uint4>(copy, stream);
  return LaunchCopyRows<uint16_t>(copy, stream);  // fits every type
}

cudaError_t LaunchGather(const GatherKernelArgs& args, cudaStream_t stream) {
  const int64_t bytes = RowStride(args.cols, args.type) * SizeOf(args.type);
  return LaunchCopyRows<uint4>({.from = args.input,
                                .from_stride = bytes,
                                .from_rows = args.rows,
                                .to = args.output,
                                .to_stride = bytes,
                                .to_rows = nullptr,
                                .rows = args.count,
                                .bytes = bytes},
                               stream);
}

}  // namespace elserve::cuda
