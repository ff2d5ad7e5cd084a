// The kernels of one instruction set and one state type: raw pointers and sizes; all checks happen above.
//
// A unit is 32 bits of states: one float32, or two neighbouring bfloat16. A product is a sum over units, so one kernel
// text serves both: only the dot of two units differs. Every sum runs over its units in order, whatever the number of
// rows: a row's bits do not depend on its neighbours.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_KERNELS_H_
#define ELSERVE_ENGINE_BACKEND_CPU_KERNELS_H_

#include <cstdint>
#include <limits>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/isa.h"
#include "engine/backend/int8_weight.h"

namespace elserve::cpu {

// An EL-attention reads tokens up to a multiple of this.
inline constexpr int kStateStep = 32;
// Tokens of a strip, a step of the online softmax. A constant: the softmax's bits depend on it.
inline constexpr int kStripTokens = 128;
inline constexpr float kLog2e = 1.44269504088896340736f;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Panels of the vocabulary that make one part of a row's sum of exp(logit), and one task. A constant: the sum's bits
// depend on it.
inline constexpr int kSumPanels = 16;

// A part of a row's sum: exp(reference) * sum.
struct SumPart {
  float reference;
  float sum;
};

struct TokenLogit {
  int32_t token;
  float logit;
};

// The logits that a row keeps are this many more than the candidates that it wants: see SelectOutcome::needs_logits.
inline constexpr int kSpareLogits = 4;
inline constexpr int kMostLogits = kMaxCandidates + kSpareLogits;

// Whether candidates are ranked by the very logits.
inline bool RanksLogits(const SelectRow& row) { return row.space == SelectSpace::kLogits && !row.renormalize; }

inline constexpr int32_t kNoToken = std::numeric_limits<int32_t>::max();

// What one thread keeps of a row's logits while the product with the vocabulary makes them.
struct alignas(64) RowLogits {
  // Of the task's panels, a token's exp(logit - reference) in the lane of its column: the sum so far.
  float lanes[16];
  float reference;
  float limit;  // a logit from here on is one of the best, or may be too far above the reference
  // Of all the thread's tasks: the greatest logits above -infinity, greatest first, the lower token first among equals.
  TokenLogit* best;  // [room]
  int32_t room;
  int32_t taken;
  // Tokens whose logits are wanted for themselves, ascending: they come into neither the sums nor the best.
  const int32_t* apart;  // [apart_count]
  float* apart_logits;   // [apart_count]
  int32_t apart_count;
  int32_t apart_at;    // the first that is still to come in the task
  int32_t apart_next;  // apart[apart_at], or kNoToken
};

// 255 * 127 times so many are below 2^31.
inline constexpr int64_t kMostInt8Inputs = 1 << 16;

// The numbers of a row that are not among its integers: see kOutlierRatio.
struct RowOutliers {
  int32_t count;
  int32_t columns[kMostOutliers];
  float values[kMostOutliers];
};

// out = activation(a B + bias) + residual for some rows and panels.
struct LinearBlock {
  const uint32_t* a;         // [rows, a_stride]: states, `units` of each row
  int64_t a_room = 0;        // rows that may be there
  int64_t a_stride;          // units
  uint32_t* wide = nullptr;  // [wide_numbers(rows, units)]: scratch
  int rows = 0;
  int64_t units;
  const uint32_t* panels = nullptr;  // B: [panel][panel_units], as pack_panel lays them
  int panel_begin = 0, panel_end = 0;
  // Where panels lie that are likely wanted next, to be fetched; null: nobody knows.
  const uint32_t* next_panels = nullptr;
  const float* bias;  // [panels * panel columns], zeros where there is none
  Activation activation = Activation::kNone;
  const float* residual = nullptr;  // [rows, residual_stride], or null
  int64_t residual_stride = 0;
  std::byte* out;      // [rows, out_stride]: from the product's first column
  bool out_state;      // states, or float32
  int64_t out_stride;  // elements
  int64_t cols;        // that the product has: the last panel may be wider
  // B and bias have a panel of gate columns, then one of up columns, for each panel of the product:
  // out = activation(a B_gate + bias_gate) * (a B_up + bias_up) + residual.
  bool gated = false;
  // Of int8 weights (Int8Kernels). a: integers of the rows, four a unit. The number of row m and column n is
  // (a B - offsets[n]) * row_scales[m * row_stride] * column_scales[n], of sums of integers, and what the outliers of
  // row m * row_stride add. Columns as the panels have them, like the bias.
  const float* row_scales = nullptr;
  const RowOutliers* outliers = nullptr;
  int64_t row_stride = 0;
  const float* column_scales = nullptr;
  const int32_t* offsets = nullptr;
  // If not null, a B + bias are logits, and go nowhere but there: [rows], and [rows, parts_stride] the part that these
  // panels have in each row's sum. `cols` is the vocabulary then.
  RowLogits* logits = nullptr;
  SumPart* parts = nullptr;
  int64_t parts_stride = 0;
};

// softmax(q K) V by packed keys and values, of heads that stand side by side: the K/V form, and the encoder's own
// attention.
struct PackedAttention {
  const uint32_t* q;  // [rows, q_stride]: queries of heads * head_dim states, scaled
  int64_t q_stride;   // units
  int rows;           // any number
  int heads;
  int head_dim;
  int tokens;
  // Tokens of a strip, for kernels whose strips may have more than a page: kPageTokens reads a page of several heads
  // from end to end, as memory streams best; kStripTokens takes fewer steps. The bits depend on it.
  int strip;
  const uint32_t* const* pages;  // page_units(head_dim) for each head, as pack_page lays them
  // If not null, bias[head * bias_head + row * bias_row + t] is added to the score of token t.
  const float* bias = nullptr;
  int64_t bias_head = 0, bias_row = 0;
  std::byte* out;      // [rows, out_stride]: states of heads * head_dim
  int64_t out_stride;  // bytes
  float* scratch;      // [packed_scratch_floats(heads, head_dim)]
};

// EL-attention: softmax(q~ H^T) H for up to StateMemory::most_queries queries over pages of kept states.
struct ElAttention {
  const uint32_t* const* q;  // [queries]: of `units`, scaled
  int queries;
  int64_t units;
  int64_t d;
  int tokens;
  const uint32_t* const* pages;  // as StateMemory::store_page lays them
  // If not null, bias[query][t] is added to the score of token t.
  const float* const* bias = nullptr;
  std::byte* const* out;  // [queries]: states of d
  float* scratch;         // [StateMemory::scratch_floats(d)]
  // The first pages of what is likely read next, for kernels that fetch them; none: nobody knows.
  const uint32_t* const* next_pages = nullptr;
  int next_tokens = 0;
};

// Attention whose weights are approximated, beside the arguments of the exact kernel.
struct ApproximateWeights {
  AttentionApproximation approximation;
  float* scores;            // [approximate_*_floats(tokens)]: of all tokens
  float* totals = nullptr;  // el: [queries]: the sums of their weights; null: nobody asks
};

// The `count` largest of n states stay, the first among equals; the others become 0.
struct LargestRow {
  std::byte* states;  // [n]
  int64_t n;
  int count;
  float* scratch;  // [RoundUp(n, kPageTokens)]
};

// One page of encoder memory, or of a row's cells side by side: up to kPageTokens kept states.
struct StatePage {
  const std::byte* const* rows;  // [tokens]: kept states of d
  int tokens;
  int64_t d;
  std::byte* page;  // [StateMemory::page_bytes(d)]
  // What stands behind the last token becomes zeros where attention reads it, up to here: RoundUp(tokens, kStateStep)
  // at least.
  int reach = kPageTokens;
};

// The keys and values of one head of a page.
struct KeyValuePage {
  const std::byte *keys, *values;  // rows [tokens, stride] of head_dim states
  int64_t stride;                  // bytes
  int tokens;                      // of kPageTokens; the others become zeros
  int head_dim;
  uint32_t* page;  // [page_units(head_dim)]
};

// A row of a document in self-attention over cells of keys and values.
struct CellRow {
  const std::byte* q;       // states: its queries of heads * head_dim, scaled
  const int32_t* ancestry;  // [tokens]: the cells
  int tokens;
  // If not null, bias[head * bias_head + t] is added to the score of token t.
  const float* bias;
  std::byte* out;  // states [heads * head_dim]
};

// softmax(q K) V of rows that share most of their cells, of heads that stand side by side.
struct CellAttention {
  const CellRow* rows;
  int count;  // any number
  int heads, head_dim;
  const std::byte* cells;  // the first of the heads' key in cell 0
  int64_t cell_stride;     // bytes
  int64_t values;          // states from a head's key to its value
  int64_t bias_head = 0;
  float* scratch;  // [cell_scratch_floats(heads, head_dim, the most tokens of a row)]
};

// What some features of FAVOR+ make of one head's keys and values in a document, see FavorAttentionArgs. With
// a_s = w.k_s - |k_s|^2/2, feature w has the mean of v_s by the weights exp(a_s), and log(sum_s exp(a_s)).
struct FavorSums {
  const std::byte* features;  // rows [rows, feature_stride] of head_dim states
  int64_t feature_stride;     // bytes
  int rows;
  int head_dim;
  const std::byte *keys, *values;  // rows [tokens, stride] of head_dim states
  int64_t stride;                  // bytes
  int tokens;
  std::byte* means;  // states: rows like the features
  float* log_sums;   // [rows]
  float* scratch;    // [favor_scratch_floats(rows, head_dim)]
};

struct NormRow {
  NormKind kind;
  const float* x;  // [d]
  int64_t d;
  const float* gamma;  // [d]
  const float* beta;   // [d], or null
  float epsilon;
  float* residual;   // [d]: the normed row; null, or x itself
  std::byte* state;  // states [d]: the same
};

// out = token * scale + position
struct EmbedRow {
  const std::byte* token;  // states [d]
  float scale;
  const std::byte* position;  // states [d], or null
  int64_t d;
  float* out;  // [d]
};

// What was kept of a row's logits -> its best tokens.
struct SelectArgs {
  const SelectRow* row;
  int vocab;
  const RowLogits* kept;  // of the first thread; apart are the edits' tokens, or those that ChooseForced reads
  int threads;
  int64_t kept_stride;   // from a thread's to the next one's
  const SumPart* parts;  // [parts_count]
  int64_t parts_count;
  // [vocab]: all of the row's logits, to choose from instead of the best that were kept. Used as scratch.
  float* logits = nullptr;
  Candidate* out;  // [row->count]
};
struct SelectOutcome {
  int count = 0;
  bool finite = true;
  // Two logits may have one value, so that the lower token counts, and it may not be among those that were kept: only
  // all of the row's logits can tell.
  bool needs_logits = false;
};

// How EL keeps states from step to step, and attends to them.
struct StateMemory {
  int64_t (*kept_bytes)(int64_t d);  // of one state
  int64_t (*page_bytes)(int64_t d);
  // States [d], with room to kept_bytes(d), to what is kept of them; and what that stands for.
  void (*keep)(const std::byte* states, int64_t d, std::byte* kept);
  void (*restore)(const std::byte* kept, int64_t d, std::byte* states);
  void (*store_page)(const StatePage& args);
  int most_queries;  // of an attention
  int64_t (*scratch_floats)(int64_t d);
  void (*attend)(const ElAttention& args);
};

// n states -> integers: states[i] is about scale * (integer - kernels' offset), but for the outliers, which are 0
// there.
struct QuantizedRow {
  const std::byte* states;  // [n]
  int64_t n;
  uint32_t* units;  // [ceil(n / 4)]: four integers each; what is behind the last is 0
  float* scale;
  RowOutliers* outliers;
};

// Products of states with int8 weights, beside a set of Kernels with the same states. Rows are rounded to integers on
// the way, each by a scale of its own; sums are exact. By vectors the rows' integers are unsigned, which is what the
// instruction multiplies with: `offset` more than they stand for.
struct Int8Kernels {
  const char* name;  // of the instructions
  int panel;         // columns of a panel
  int unit_step;     // a panel has whole steps of so many units of each column
  int offset;
  void (*linear)(const LinearBlock& block);
  // Rows [panel columns, units] -> a panel.
  void (*pack_panel)(const uint32_t* rows, int64_t units, uint32_t* panel);
  void (*quantize)(const QuantizedRow& row);
  StateMemory states;       // kept as integers, each state by a scale of its own
  const char* states_name;  // of the instructions that attend to them
};

// A set of kernels, and the layouts that its own kernels read: weights, states and keys and values lie in memory as the
// set that computes with them wants it.
struct Kernels {
  Isa isa;  // whose instructions these are: the level asked for, or the best one below that differs for the state type
  int panel;       // columns of a panel
  int pack;        // states in a unit
  int unit_step;   // a panel has whole steps of so many units of each column
  int rows_ahead;  // of A that a product with a panel may read behind its last

  // A product's task takes so many rows that their input stays in the second-level cache while panels stream by: those
  // of `row_block_bytes`, and `row_block` at least.
  int row_block;
  int64_t row_block_bytes;
  void (*linear)(const LinearBlock& block);
  int64_t (*wide_numbers)(int64_t rows, int64_t units);  // of LinearBlock::wide
  // Rows [panel columns, units] -> a panel.
  void (*pack_panel)(const uint32_t* rows, int64_t units, uint32_t* panel);
  // `to_state` rounds floats to states.
  void (*to_state)(const float* in, int64_t n, std::byte* out);
  void (*from_state)(const std::byte* in, int64_t n, float* out);

  int64_t (*page_units)(int head_dim);  // of one head's keys and values
  void (*pack_page)(const KeyValuePage& args);
  int64_t (*packed_scratch_floats)(int heads, int head_dim);
  void (*packed_attention)(const PackedAttention& args);

  StateMemory states;  // kept as they are

  // Approximate attention over the pages of the same table; null where their layout is another one (amx).
  int64_t (*approximate_packed_floats)(int64_t tokens);
  void (*approximate_packed)(const PackedAttention& args, const ApproximateWeights& weights);
  int64_t (*approximate_el_floats)(int64_t tokens);
  void (*approximate_el)(const ElAttention& args, const ApproximateWeights& weights);
  void (*keep_largest)(const LargestRow& args);

  int64_t (*cell_scratch_floats)(int heads, int head_dim, int64_t tokens);
  void (*cell_attention)(const CellAttention& args);

  int64_t (*favor_scratch_floats)(int rows, int head_dim);
  void (*favor_sums)(const FavorSums& args);

  void (*norm)(const NormRow& args);
  void (*embed)(const EmbedRow& args);
  SelectOutcome (*select)(const SelectArgs& args);
};

// `state_type`: kFloat32 or kBFloat16. bfloat16 runs on each level: below kAvx512Bf16 by widening to float32.
const Kernels& KernelsFor(Isa isa, DataType state_type);

// Tables of the compiled levels.
const Kernels& Avx2Kernels(DataType state_type);
const Kernels& Avx512Kernels(DataType state_type);
const Kernels& Avx512Bf16Kernels();
const Kernels& AmxKernels();

// For bfloat16 states on that level; null: VNNI is not there beside it.
const Int8Kernels* Int8KernelsFor(Isa isa);

const Int8Kernels& Avx2VnniKernels();
const Int8Kernels& Avx512VnniKernels();
const Int8Kernels& AmxInt8Kernels();

inline int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Bytes from a row of `cols` states to the next: whole cache lines, so that kernels may read past the last column.
inline int64_t StateStride(const Kernels& k, int64_t cols) { return RoundUp(cols, 32) * 4 / k.pack; }

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_KERNELS_H_
