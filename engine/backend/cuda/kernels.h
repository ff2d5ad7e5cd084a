// The cuda backend's kernels: for each operation a struct of raw device pointers and sizes, and one launcher. Nothing
// is checked here: shapes, bounds and room are the caller's. A launcher only launches, so that it can be captured in a
// graph; what changes from step to step is read from device memory (the step's arrays), never from arguments.
//
// Numbers. T is the precision's type: float, or bfloat16 (sums, softmax and norms are float32 in both). The form for
// tensor cores takes bfloat16 and widths (d, head_dim) that are multiples of 8; everything else goes to plain
// multiplications in float32, which keep float32's digits (no TF32). Which of the two runs depends on the shape alone.
//
// Rows. A tensor's row begins at a multiple of 16 bytes: its stride is RowStride(cols, type) elements.
//
// Encoder memory, EL: a page is 64 rows of hidden states, [64][RowStride(d)]; page p is at p * 64 * stride. One
// array, shared by all layers.
// Encoder memory, K/V: one array a layer; a page is [2][heads][64][head_dim]: each head's keys are one block of 64
// rows, as are its values, so that a tile is one contiguous piece of memory (no padding: head_dim is the row). Decoder
// memory: one array a layer; a cell is a row of RowStride(d) (EL: the attention input), or of RowStride(2 * heads *
// head_dim) (K/V: all heads' keys, then all heads' values).
//
// The same bits for a row in any company: a tile's height and the order of blocks never change a row's sums, and a
// row's softmax is cut into splits by its own length alone (work_items.h), whose partial results merge in their order.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_KERNELS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_KERNELS_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/work_items.h"

namespace elserve::cuda {

// Elements from a row to the next.
inline int64_t RowStride(int64_t cols, DataType type) {
  const int64_t unit = 16 / SizeOf(type);
  return (cols + unit - 1) / unit * unit;
}

// What launchers need to know of the device.
struct Device {
  int processors = 0;         // multiprocessors
  int shared_bytes = 0;       // cudaDevAttrMaxSharedMemoryPerBlockOptin
  int shared_bytes_each = 0;  // cudaDevAttrMaxSharedMemoryPerMultiprocessor
};

// Once for each device, before the first launch: the kernels' shared memory limits. Allocates nothing.
cudaError_t PrepareKernels(const Device& device);

// x[p] = tokens[id[p]] * scale + places[place[p] + offset], float32.
struct EmbedKernelArgs {
  DataType type;             // of both tables
  const int32_t* ids;        // [rows]: a bucket's padding has valid ids (0)
  const int32_t* place_ids;  // [rows]
  const void* tokens;        // [vocab, d], RowStride
  const void* places;        // [places, d], RowStride; null: none
  float scale;
  int place_offset;
  float* output;  // [rows, d], RowStride
  int rows;
  int d;
};
cudaError_t LaunchEmbed(const EmbedKernelArgs& args, cudaStream_t stream);

// LayerNorm or RMSNorm of each row: float32, the mean first, then the variance around it.
struct NormKernelArgs {
  DataType type;  // of `state`
  NormKind kind;
  const float* input;  // [rows, d], RowStride
  const float* gamma;  // [d]
  const float* beta;   // [d]; null: none
  float epsilon;
  float* residual;  // [rows, d], RowStride; null: not wanted; may be input
  void* state;      // [rows, d], RowStride
  int rows;
  int d;
};
cudaError_t LaunchNorm(const NormKernelArgs& args, cudaStream_t stream);

// output = activation(input + bias) * factor + residual, where the product's own epilogue cannot do it: the exact
// activations, and gates.
struct EpilogueKernelArgs {
  DataType input_type;  // the output's, or float32
  const void* input;    // [rows, cols], RowStride(cols, input_type); may be output where the types are equal and
                        // nothing is gated
  int factor_begin;   // of a gated product, whose rows are [factor_begin + cols] with RowStride of that: where a row's
                      // factors begin, a multiple of 4; 0: rows of cols, and no factors
  const float* bias;  // [cols]; null: none
  Activation activation;
  const float* residual;  // [rows, cols], RowStride; null: none; may be output
  DataType output_type;
  void* output;  // [rows, cols], RowStride(cols, output_type)
  int rows;
  int cols;
};
cudaError_t LaunchEpilogue(const EpilogueKernelArgs& args, cudaStream_t stream);

// PerHeadLinear has no kernel here: it is a strided batched product of cublasLt, batch = heads, head i's input at
// i * in of a row, its weight at i * in * out, its output at i * out of a row; row strides are the tensors'.

// Where a document's biases begin among all documents', [heads, length]; -1: it has none.
struct DocumentBias {
  int32_t begin;
  int32_t length;
};

// Numbers added to scores: to self-attention's by the distance of key and query, to cross-attention's by document, head
// and token. Scores that have some are computed by plain multiplications.
struct ScoreBias {
  // Self-attention of either side: table[head * distances + (key's position - query's) + zero].
  const float* table = nullptr;  // [heads, distances]; null: nothing is added
  int distances = 0;
  int zero = 0;
  const int32_t* position_ids = nullptr;  // [rows]; the encoder knows its documents' begin instead
  // Cross-attention: values[documents[row].begin + head * documents[row].length + token].
  const float* values = nullptr;            // null: nothing is added
  const DocumentBias* documents = nullptr;  // [rows]
  bool any() const { return table != nullptr || values != nullptr; }
};

// Encoder self-attention, all positions of a document seeing all; q comes scaled.
struct EncoderAttentionKernelArgs {
  Device device;
  DataType type;
  const void* qkv;  // [positions, 3 * heads * head_dim], RowStride: q, k, v
  int heads;
  int head_dim;
  void* output;                // [positions, heads * head_dim], RowStride
  const EncodeItem* items;     // PlanEncoderAttention's
  const int32_t* items_count;  // device memory
  int max_items;               // what the grid is sized for: items_count, or a bound of it
  ScoreBias bias;
};
cudaError_t LaunchEncoderAttention(const EncoderAttentionKernelArgs& args, cudaStream_t stream);

// Encoder states into pages. EL: a row is copied. K/V: a row of keys and values of all heads is taken apart.
struct StoreEncoderKernelArgs {
  DataType type;
  const void* states;          // [positions, el ? d : 2 * heads * head_dim], RowStride
  const int32_t* token_slots;  // [positions]: page * 64 + place in the page; -1: not stored
  bool el;
  int d;         // el
  int heads;     // kv
  int head_dim;  // kv
  void* pages;   // the layer's
  int positions;
};
cudaError_t LaunchStoreEncoder(const StoreEncoderKernelArgs& args, cudaStream_t stream);

// The positions' states into their cells, before self-attention reads them.
struct StoreCellsKernelArgs {
  DataType type;
  const void* states;    // [rows, column + width], RowStride
  const int32_t* cells;  // [rows]; -1: padding, not stored
  void* memory;          // the layer's cells, RowStride(width)
  int column;            // the first that is stored: kv stands behind q
  int width;             // el ? d : 2 * heads * head_dim
  int rows;
};
cudaError_t LaunchStoreCells(const StoreCellsKernelArgs& args, cudaStream_t stream);

// Room for the splits' partial results: sizes from AttentionBounds, the greater of cross- and self-attention's. One
// serves all attention of a stream, whose kernels run one after another.
struct AttentionWorkspace {
  float* sums;        // [partial rows, el ? d : head_dim]: weighted sums; 16-byte aligned
  float2* scales;     // [partial rows]: the maximum of the scores times log2(e), and the sum of weights
  int32_t* arrivals;  // a counter for each tile (K/V: and head): zero at load, zero again after each launch
};

// What a step's attention goes through, cross or self: device memory.
struct AttentionWork {
  const int32_t* list = nullptr;         // pages, document after document; or cells, row after row
  const AttentionItem* items = nullptr;  // PlanCrossAttention's, or PlanSelfAttention's
  const int32_t* items_count = nullptr;
  int max_items = 0;  // a bound of items_count for the bucket: sizes the grid
};

// Attention of the decode positions: cross-attention over their documents' pages, or self-attention over the cells of
// their ancestry (LaunchStoreCells comes before).
struct DecodeAttentionKernelArgs {
  Device device;
  DataType type;
  bool el;
  int heads;
  int d;                 // el: width of a query, a state and an output of one head
  int head_dim;          // kv: likewise
  const void* query;     // el: [rows, heads * d]; kv: [rows, heads * head_dim]
  int64_t query_stride;  // elements; self kv: of rows of q, k and v, else as output's
  void* output;          // as many columns as query, RowStride
  const void* memory;    // the layer's pages, or cells
  AttentionWork work;
  AttentionWorkspace workspace;
  ScoreBias bias;
};
cudaError_t LaunchCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream);
cudaError_t LaunchSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream);

// Rows of states side by side: output[r] = input[rows[r]], for the logits of the select rows alone.
struct GatherKernelArgs {
  DataType type;
  const void* input;    // [positions, cols], RowStride
  const int32_t* rows;  // [count]; a bucket's padding has valid rows (0)
  void* output;         // [count, cols], RowStride
  int count;
  int cols;
};
cudaError_t LaunchGather(const GatherKernelArgs& args, cudaStream_t stream);

// What a select row asks, as the device reads it.
struct SelectItem {
  int32_t space;  // SelectSpace
  int32_t count;  // candidates; 0: a bucket's padding
  int32_t renormalize;
  int32_t force_begin;  // in force: [force_begin, force_begin + force_count)
  int32_t force_count;
  int32_t edits_begin;  // in edits
  int32_t edits_count;
  int32_t reserved;
};

// Logits (with their bias) -> the best tokens of each row. Row r's candidates are candidates[r * kMaxCandidates ...];
// entry status[r] is the number of candidates, min(count, vocab), or -1 where a logit was not a number or +infinity, or
// none was finite.
struct SelectKernelArgs {
  const float* logits;  // [rows, vocab], row stride logits_stride
  int64_t logits_stride;
  const SelectItem* items;  // [rows]
  const int32_t* force;     // all rows' forced tokens
  const LogitEdit* edits;   // all rows' edits
  void* workspace;          // SelectWorkspaceBytes(max rows, vocab), 16-byte aligned; zero at load
  Candidate* candidates;    // [rows, kMaxCandidates]; page-locked host memory, as status
  int32_t* status;          // [rows]
  int rows;
  int vocab;
};
int64_t SelectWorkspaceBytes(int rows, int vocab);
cudaError_t LaunchSelect(const SelectKernelArgs& args, cudaStream_t stream);

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_KERNELS_H_
