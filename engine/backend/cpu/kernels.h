// The kernels of one instruction set and one state type: raw pointers and sizes; all checks happen above.
//
// A unit is 32 bits of states: one float32, or two neighbouring bfloat16. A product is a sum over units, so one kernel
// text serves both: only the dot of two units differs. Every sum runs over its units in order, whatever the number of
// rows: a row's bits do not depend on its neighbours.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_KERNELS_H_
#define ELSERVE_ENGINE_BACKEND_CPU_KERNELS_H_

#include <cstdint>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/isa.h"

namespace elserve::cpu {

// Rows of a product that one task takes: their input stays in the second-level cache while panels stream by.
inline constexpr int kRowBlock = 64;
// Tokens of a strip, a step of the online softmax. A constant: the softmax's bits depend on it.
inline constexpr int kStripTokens = 128;
// EL-attention's queries (head x position) of one task, at most.
inline constexpr int kMaxQueries = 48;
inline constexpr float kLog2e = 1.44269504088896340736f;

// A part of a row's sum of exp(logit - max).
struct SumPart {
  float max;
  float sum;
};

// out = activation(a B + bias) + residual for some rows and panels.
struct LinearBlock {
  const uint32_t* a;  // [rows, a_stride]: states, `units` of each row
  int64_t a_stride;   // units
  int rows = 0;       // up to kRowBlock
  int64_t units;
  const uint32_t* panels = nullptr;  // B: [panel][units][panel columns]
  int panel_begin = 0, panel_end = 0;
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
  // [rows, sums_stride]: if not null, the part that these panels' float32 outputs have in each row's sum.
  SumPart* sums = nullptr;
  int64_t sums_stride = 0;
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
  // Tokens of a strip: kPageTokens reads a page of several heads from end to end, as memory streams
  // best; kStripTokens takes fewer steps. The bits depend on it.
  int strip;
  // Page p (64 tokens): for each head keys [64 / panel][head_units][panel], values [head_panels][64 / pack][panel].
  const uint32_t* const* pages;
  // If not null, bias[head * bias_head + row * bias_row + t] is added to the score of token t.
  const float* bias = nullptr;
  int64_t bias_head = 0, bias_row = 0;
  std::byte* out;      // [rows, out_stride]: states of heads * head_dim
  int64_t out_stride;  // bytes
  float* scratch;      // PackedScratchFloats(kernels, heads, head_dim)
};

// EL-attention: softmax(q~ H^T) H for up to kMaxQueries queries over rows of states.
struct ElAttention {
  const uint32_t* const* q;  // [queries]: of `units`, scaled
  int queries;
  int64_t units;
  int64_t d;
  int tokens;
  const uint32_t* const* pages;  // of 64 rows each
  int64_t page_stride;           // units from a row to the next
  // If not null, bias[query][t] is added to the score of token t.
  const float* const* bias = nullptr;
  std::byte* const* out;  // [queries]: states of d
  float* scratch;         // ElScratchFloats(d)
};

// softmax(q K) V of one position, all heads, over cells of keys and values in rows.
struct CellAttention {
  const std::byte* q;  // states [heads * head_dim]
  int heads, head_dim, tokens;
  const std::byte* cells;   // row c: keys [heads * head_dim], values [heads * head_dim]
  int64_t cell_stride;      // bytes
  const int32_t* ancestry;  // [tokens]: the cells
  // If not null, bias[head * bias_head + t] is added to the score of token t.
  const float* bias = nullptr;
  int64_t bias_head = 0;
  std::byte* out;  // states [heads * head_dim]
  float* scratch;  // [tokens, up to whole vectors]
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

// One row of logits, and the parts of its sum, -> its best tokens.
struct SelectArgs {
  float* logits;  // [vocab]; used as scratch, the same afterwards
  int vocab;
  const SumPart* parts;  // that linear() made of the logits
  int64_t parts_count;
  const SelectRow* row;
  Candidate* out;  // [row->count]
  float* raw;      // [2 * edits]: scratch
};
struct SelectOutcome {
  int count;
  bool finite;
};

struct Kernels {
  Isa isa;  // whose instructions these are: the level asked for, or the best one below that differs for the state type
  int panel;       // columns of a panel
  int pack;        // states in a unit
  int rows;        // of a product with a panel
  int rows_ahead;  // of A that such a product may read behind its last

  void (*linear)(const LinearBlock& block);
  // Weight rows [out, in] of float -> panels; `to_state` rounds floats to states.
  void (*to_state)(const float* in, int64_t n, std::byte* out);
  void (*from_state)(const std::byte* in, int64_t n, float* out);

  // Rows of 64 tokens (fewer: the rest is zeros), one head: -> a page of keys / values. Strides in bytes.
  void (*pack_keys)(const std::byte* rows, int64_t stride, int tokens, int head_dim, uint32_t* page);
  void (*pack_values)(const std::byte* rows, int64_t stride, int tokens, int head_dim, uint32_t* page);
  void (*packed_attention)(const PackedAttention& args);
  void (*el_attention)(const ElAttention& args);
  void (*cell_attention)(const CellAttention& args);

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

inline int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// A page's size in units: one head's keys or values.
inline int64_t KeyPageUnits(const Kernels& k, int head_dim) { return RoundUp(head_dim, k.pack) / k.pack * kPageTokens; }
inline int64_t ValuePageUnits(const Kernels& k, int head_dim) {
  return RoundUp(head_dim, k.panel) * (kPageTokens / k.pack);
}

inline int64_t PackedScratchFloats(const Kernels& k, int heads, int head_dim) {
  // scores and weights of a strip; sums, maximum and sum of weights of each head.
  return k.rows * (2 * kStripTokens + heads * (RoundUp(head_dim, k.panel) + 2));
}
inline int64_t ElScratchFloats(int64_t d) {
  // queries, scores, weights, sums; see el_attention.
  return kMaxQueries * (RoundUp(d, 32) * 2 + 2 * kStripTokens + 8);
}

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_KERNELS_H_
