// The seam between the model and a device. A Backend owns its device's memory, its layouts and its kernels; the model
// code above is written once for all devices and never follows a device pointer.
//
// Words: a position is one new token of one row in this step; a row is a live hypothesis; a page is 64 tokens of
// encoder memory; a cell is one decoder position in memory, 16 cells are a block. Shapes are row-major.
#ifndef ELSERVE_ENGINE_BACKEND_BACKEND_H_
#define ELSERVE_ENGINE_BACKEND_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/attention_approximation.h"
#include "engine/attention_form.h"
#include "engine/decoding.h"

namespace elserve {

inline constexpr int kPageTokens = 64;
inline constexpr int kBlockCells = 16;

enum class DataType { kFloat32, kBFloat16, kFloat16 };

// How a product's weight is stored. kState: as states are. kInt8: integers, with a scale for each output; the product
// rounds its rows on the way to integers, each by a scale of its own, and sums integers, which is exact. Weights of
// more inputs than such sums can hold stay kState.
enum class WeightType { kState, kInt8 };

inline int64_t SizeOf(DataType type) { return type == DataType::kFloat32 ? 4 : 2; }

// A matrix or vector in host memory, for packing: a checked view into a checkpoint, or floats that model/ made. Not
// owned.
struct HostTensor {
  DataType type = DataType::kFloat32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  // 0: row-major. Else a view of columns of a matrix that is stored with so many of them a row: number [r, c], r over
  // all extents but the last, stands at c * transposed_from + r. So [out, in] can be shown of what is stored [in, out].
  int64_t transposed_from = 0;

  int64_t size() const {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    return n;
  }
};

// Numbers [begin, begin + n) of a tensor, in row-major order of its shape, as float32.
void ReadFloats(const HostTensor& tensor, int64_t begin, int64_t n, float* out);

// A weight in the device's layout; only the backend that packed it knows what is inside.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  virtual int64_t bytes() const = 0;
};
using PackedWeightPtr = std::unique_ptr<PackedWeight>;

enum class Activation { kNone, kRelu, kGelu, kGeluTanh, kGeluQuick, kSilu, kTanh };
enum class NormKind { kLayerNorm, kRmsNorm };

// Activations on the device. kResidual is float32 always; kState is the precision's type: what products read.
enum class Storage { kResidual, kState };
struct Tensor {
  std::byte* data = nullptr;  // device memory
  int64_t rows = 0;           // room for so many positions
  int64_t cols = 0;
  Storage storage = Storage::kState;
};

// Which of the step's layouts an operation runs on. kPrefill: positions whose tokens are given, many of a row at once;
// kDecode: one position of each row, whose successor is to be chosen.
enum class Phase { kEncode, kPrefill, kDecode };

// A slice of encoding: documents laid end to end without padding.
struct EncodeDocument {
  int32_t begin = 0;   // its first position
  int32_t length = 0;  // tokens
  // Where StoreEncoder puts its states: page p holds tokens [64 p, 64 p + 64). Empty: the document was dropped; skip
  // it.
  std::span<const int32_t> pages;
};
struct EncodeLayout {
  std::span<const int32_t> tokens;        // [positions]
  std::span<const int32_t> position_ids;  // [positions]: 0, 1, ... in each document; the model adds its offset
  std::span<const EncodeDocument> documents;
  int positions() const { return static_cast<int>(tokens.size()); }
};

// Some positions of one hypothesis, one after the other.
struct DecodeRow {
  int32_t begin = 0;      // its first position of this step
  int32_t positions = 1;  // kDecode: 1
  int32_t first = 0;      // how many positions of the hypothesis came in steps before
  // [first + positions]: the cells of the hypothesis's positions, in their order. The row's position j is written to
  // cell ancestry[first + j], and attends to the cells up to that one.
  std::span<const int32_t> ancestry;
};

// A document whose rows are in this layout. Its positions stand together.
struct DecodeDocument {
  int32_t begin = 0;  // its first position
  int32_t positions = 0;
  int32_t length = 0;  // source tokens; 0, and no pages, without cross-attention (MemoryShape::cross)
  std::span<const int32_t> pages;
  // [heads * length], or empty: added to the scores of head h and token t where CrossAttentionArgs::biased, at
  // [h * length + t]. -infinity hides a token from a head; of each head at least one token has to stay.
  std::span<const float> bias = {};
};

// How SelectTokens ranks a row's next tokens.
enum class SelectSpace {
  kLogProbs,  // beams: log-softmax of the unedited logits, then the edits
  kLogits,    // greedy (and sampling): the edits on the raw logits
};
struct SelectRow {
  int32_t position = 0;  // in DecodeLayout::tokens: the token before the one that is wanted
  SelectSpace space = SelectSpace::kLogProbs;
  int count = 1;  // candidates wanted, at most kMaxCandidates
  // If not empty, these tokens have value 0 and all others -infinity, before the edits.
  std::span<const int32_t> force;
  std::span<const LogitEdit> edits;  // one a token at most, by token
  // Log-softmax once more over the edited values.
  bool renormalize = false;
  // Not candidates are wanted but all logits, as they are: what stands above means nothing. kDecode alone.
  bool whole = false;
};

struct DecodeLayout {
  std::span<const int32_t> tokens;        // [positions]
  std::span<const int32_t> position_ids;  // [positions]: how many positions of the row's hypothesis came before
  std::span<const DecodeRow> rows;        // their positions lie end to end
  std::span<const DecodeDocument> documents;
  std::span<const SelectRow> select;
  int positions() const { return static_cast<int>(tokens.size()); }
};

// All that the device needs to know of a step. What it refers to stays as it is until the step's last operation ended.
struct StepLayout {
  EncodeLayout encode;  // no positions: nothing is encoded
  DecodeLayout prefill;
  DecodeLayout decode;  // may read what this step's prefill writes
};

// What encoder and decoder memory hold, fixed at load.
struct MemoryShape {
  // A source token. kEl: one hidden state of d, shared by all layers. kKv: a key and a value of heads * head_dim each,
  // for each layer. None: the model is decoder-only. There is no encoder memory then, and neither EncoderAttention,
  // StoreEncoder nor CrossAttention is called.
  std::optional<AttentionForm> cross = AttentionForm::kEl;
  // A cell, for each layer. kEl: one attention input of d. kKv: a key and a value.
  AttentionForm self = AttentionForm::kEl;
  int layers = 0;  // of the decoder
  int d = 0;
  int heads = 0;
  int head_dim = 0;
  // What EL keeps is int8, each state by a scale of its own, and queries and weights are rounded on the way, too.
  // Keys and values are states as ever. Where Backend::has_int8().
  bool int8 = false;

  // Layers of encoder memory.
  int encoder_layers() const { return cross == AttentionForm::kKv ? layers : cross == AttentionForm::kEl ? 1 : 0; }
};
struct MemoryCosts {  // bytes
  int64_t per_encoder_page = 0;
  int64_t per_decoder_block = 0;
};

// The most that a step may hold.
struct StepLimits {
  int encode_positions = 0;
  int prefill_positions = 0;
  int prefill_history = 0;  // first + positions of all prefill rows together
  int decode_positions = 0;
  int select_rows = 0;     // of each phase
  int whole_rows = 0;      // select rows that are wanted whole
  int decoder_length = 0;  // positions of one hypothesis
  int source_length = 0;   // tokens of one document
  int64_t edits = 0;       // logit edits of all rows; a step with more may allocate
  int64_t biases = 0;      // numbers of all documents' biases in a phase; a step with more may allocate
};

// x[p] = table[token] * scale + position_table[position_id + offset]; float32 [positions, d].
struct EmbedArgs {
  Phase phase;
  const PackedWeight* tokens;  // [vocab, d]
  float scale;
  const PackedWeight* positions;  // [max positions + offset, d]; null: none
  int position_offset;
  Tensor output;  // kResidual [positions, d]
};

// output = activation(input W^T + b) + residual, or, of a gated weight,
// output = activation(input W_gate^T + b_gate) * (input W_up^T + b_up) + residual
struct LinearArgs {
  Phase phase;
  Tensor input;                // kState [positions, in]
  const PackedWeight* weight;  // from PackLinear or PackGatedLinear
  Activation activation = Activation::kNone;
  const Tensor* residual = nullptr;  // kResidual [positions, out]; may be `output` itself
  Tensor output;                     // kState or kResidual [positions, out]
};

// output_i = input_i W_i for each head i: EL-attention's q W_K^T and c W_V; of a weight with a bias
// output_i = input_i W_i + total_i b_i.
struct PerHeadLinearArgs {
  Phase phase;
  Tensor input;                // kState [positions, heads * in]
  const PackedWeight* weight;  // from PackPerHead
  Tensor output;               // kState [positions, heads * out]
  // kResidual [positions, heads]; not null if and only if the weight has a bias.
  const Tensor* totals = nullptr;
};

// Row-wise. LayerNorm: (x - mean) / sqrt(var + eps) * gamma + beta; RMSNorm: x / sqrt(mean(x^2) + eps) * gamma.
struct NormArgs {
  Phase phase;
  Tensor input;                // kResidual [positions, d]
  const PackedWeight* weight;  // from PackNorm; null: the values as they are, rounded to states; no `residual` then
  const Tensor* residual = nullptr;  // kResidual: the normed values in float32 (post-norm families); may be `input`
  Tensor state;                      // kState: the normed values, for the products that follow
};

// Added to a score before the softmax: for head h, a query at position q and a key at position k it is
// table[h][k - q + zero]. The table has to reach as far as positions of one document, or of one hypothesis, lie apart.
struct PositionBias {
  const PackedWeight* table = nullptr;  // from PackPositionBias; null: nothing is added
  int zero = 0;                         // the column of distance 0
};

// softmax(q k^T + bias) v within each document, all positions seeing all; q comes scaled.
struct EncoderAttentionArgs {
  Tensor qkv;  // kState [positions, 3 * heads * head_dim]: q, k, v side by side
  int heads;
  int head_dim;
  Tensor output;  // kState [positions, heads * head_dim]
  PositionBias bias = {};
  AttentionApproximation approximation = {};
};

// Of each row the `count` largest values stay, the first among equals; the others become 0.
struct KeepLargestArgs {
  Phase phase;
  Tensor values;  // kState [positions, any], in place
  int count;      // at least 1
};

// FAVOR+ (Choromanski et al. 2020, "Rethinking Attention with Performers"): instead of softmax(q k^T) v, within each
// document and head, with all positions seeing all,
//
//   out_t = phi(q_t)^T (sum_s phi(k_s) v_s^T) / (phi(q_t)^T sum_s phi(k_s)),  phi(x)_i = exp(w_i.x - |x|^2/2) / sqrt(m)
//
// for m random features w_i, in time linear in the document's length. The mean of phi(q).phi(k) over draws of features
// is exp(q.k), so q and k come each with the square root of the scale that the score q.k has. No epsilon is added to
// the sums: with a maximum of the exponents taken out of each feature's sum over tokens, and of each query's over
// features, neither of them overflows and the denominator is at least 1.
struct FavorAttentionArgs {
  Tensor qkv;                    // kState [positions, 3 * heads * head_dim], as EncoderAttention's
  const PackedWeight* features;  // from PackEmbedding: [m, head_dim], the same for all heads
  int heads;
  int head_dim;
  Tensor output;  // kState [positions, heads * head_dim]
};

// Writes the encode layout's documents into encoder memory, in the layout that CrossAttention reads.
struct StoreEncoderArgs {
  int layer;      // of the decoder; el: 0, states are shared by all layers
  Tensor states;  // el: kState [positions, d]; kv: kState [positions, 2 * heads * head_dim], k and v side by side
};

// Attention of the layout's positions over their documents' memory, in the form MemoryShape::cross; the query comes
// scaled.
struct CrossAttentionArgs {
  Phase phase;  // kPrefill or kDecode
  int layer;
  Tensor query;   // el: kState [positions, heads * d], q W_K^T per head; kv: kState [positions, heads * head_dim]
  Tensor output;  // el: kState [positions, heads * d], softmax(q~ H^T) H per head; kv: kState [positions, heads *
                  // head_dim]
  // Whether this layer adds DecodeDocument::bias to the scores of the documents that have one.
  bool biased = false;
  AttentionApproximation approximation = {};
  // If not null, kResidual [positions, heads]: what the weights of each query sum to, which is 1 unless
  // `approximation` loses weight. el alone.
  const Tensor* totals = nullptr;
};

// Writes the decode layout's states into their cells, then attends over the ancestry, in the form MemoryShape::self.
struct SelfAttentionArgs {
  int layer;
  // el: kState [positions, d]; kv: kState [positions, 3 * heads * head_dim], q, k and v side by side. k and v are
  // written.
  Tensor states;
  Tensor query;   // el: as CrossAttention's; kv: none, the states have it
  Tensor output;  // as CrossAttention's
  PositionBias bias = {};
};

// Writes the prefill layout's states into their cells, then attends over the ancestry as the K/V form does, whatever
// MemoryShape::self is: many positions share the keys and values that are made of their history.
struct PrefillAttentionArgs {
  int layer;
  Tensor states;  // as SelfAttention's
  Tensor query;   // el: kState [positions, heads * head_dim], scaled; kv: none, the states have it
  // el: from PackLinear, [2 * heads * head_dim, d]: what makes a cached state's key and value.
  const PackedWeight* keys_values;
  Tensor output;  // kState [positions, heads * head_dim]
  PositionBias bias = {};
};

// logits = input W^T + b of the layout's select rows, then the best tokens of each.
struct SelectTokensArgs {
  Phase phase;                 // kPrefill or kDecode
  Tensor input;                // kState [positions, d]
  const PackedWeight* weight;  // from PackLinear: [vocab, d] and the logits' bias
};

// One select row's answer.
struct SelectedRow {
  // Best value first, the lower token id first among equals; fewer than asked only if the vocabulary is smaller.
  std::span<const Candidate> candidates = {};
  std::span<const float> logits = {};  // SelectRow::whole: [vocab]
  bool finite = true;  // false: a logit was not a number or +infinity; candidates mean nothing. Whole rows: always true
};

// A step's size where the configuration leaves it open.
struct StepSizes {
  int max_rows;                // beyond so many rows a row gets hardly cheaper: more would only finish later
  int encode_tokens_per_step;  // enough for full speed
};

// What operations may be expected to reach in the backend's precision, on all that it computes with: by them the memory
// plan chooses between the forms of attention. Operations a second: a multiplication and an addition are two.
struct OperationFigures {
  double product_flops = 0;       // Linear and PerHeadLinear
  double el_attention_flops = 0;  // CrossAttention over states
  double kv_attention_flops = 0;  // over keys and values, where memory does not hold it up
  // SelfAttention of many rows with some dozens of cells each.
  double el_self_attention_flops = 0;
  double kv_self_attention_flops = 0;
  // Over states in int8 (MemoryShape::int8); 0 where there is none of it.
  double int8_el_attention_flops = 0;
  double int8_el_self_attention_flops = 0;
  double bytes_per_second = 0;  // of the memory that weights, states, keys and values stream from
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;         // "cpu", "cuda", "reference"
  virtual std::string device_name() const = 0;  // the processor or card, and what is used of it
  virtual DataType state_type() const = 0;      // kFloat32 or kBFloat16
  virtual OperationFigures Figures() const = 0;
  // Whether it has what approximates: attention other than exact, FavorAttention and KeepLargest. Where it has not, a
  // model that wants them is refused at load.
  virtual bool has_approximations() const { return false; }
  // Whether weights may be kInt8, and memory MemoryShape::int8.
  virtual bool has_int8() const { return false; }
  // None: the device is the processor, and its memory the system's.
  virtual std::optional<int64_t> FreeBytes() const { return std::nullopt; }

  // Load. The weights are copied and converted; the host tensors may go afterwards.
  // weight: [out, in]; bias: [out] or null. kInt8 for all of these where has_int8().
  virtual PackedWeightPtr PackLinear(const HostTensor& weight, const HostTensor* bias,
                                     WeightType type = WeightType::kState) = 0;
  // gate, up: [out, in] each, biases: [out] or null, for both or for neither.
  struct GatedWeights {
    const HostTensor& gate;
    const HostTensor& up;
    const HostTensor* gate_bias = nullptr;
    const HostTensor* up_bias = nullptr;
    WeightType type = WeightType::kState;
  };
  virtual PackedWeightPtr PackGatedLinear(const GatedWeights& weights) = 0;
  // weight: [heads, in, out]; bias: [heads * out] or null. A bias is for PerHeadLinearArgs::totals, and so for backends
  // that have approximations.
  virtual PackedWeightPtr PackPerHead(const HostTensor& weight, const HostTensor* bias,
                                      WeightType type = WeightType::kState) = 0;
  virtual PackedWeightPtr PackEmbedding(const HostTensor& table) = 0;  // [rows, d]
  virtual PackedWeightPtr PackNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta,
                                   float epsilon) = 0;                    // [d]
  virtual PackedWeightPtr PackPositionBias(const HostTensor& table) = 0;  // [heads, distances]; stays float32

  virtual StepSizes PreferredSizes() const = 0;
  virtual MemoryCosts Costs(const MemoryShape& shape) const = 0;
  // Once: encoder and decoder memory, and all workspaces that steps within `limits` need.
  virtual absl::Status AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                                      const StepLimits& limits) = 0;
  // Before AllocateMemory's first step. RESOURCE_EXHAUSTED when the device has no room.
  virtual absl::StatusOr<Tensor> AllocateTensor(int64_t rows, int64_t cols, Storage storage) = 0;
  // Last at load, once a phase: `body` launches every operation that steps of the phase will launch; for kDecode it is
  // what Replay gets. A device may try its ways to compute them and capture them now, so that no step has to. It may
  // run `body` any number of times, or never; what that leaves in tensors and memory means nothing.
  virtual absl::Status Prepare(Phase phase, absl::FunctionRef<void()> body) {
    static_cast<void>(phase), static_cast<void>(body);
    return absl::OkStatus();
  }

  // A step: BeginStep, then operations, then Selected. Nothing below allocates once it is warm.
  virtual void BeginStep(const StepLayout& layout) = 0;
  // Runs the decode phase's operations: `body`, which only launches them, or what was captured of it. So it has to
  // launch the same operations on the same tensors in every step: what differs between steps is in the layout.
  virtual void Replay(absl::FunctionRef<void()> body) = 0;

  virtual void Embed(const EmbedArgs& args) = 0;
  virtual void Linear(const LinearArgs& args) = 0;
  virtual void PerHeadLinear(const PerHeadLinearArgs& args) = 0;
  virtual void Norm(const NormArgs& args) = 0;
  virtual void EncoderAttention(const EncoderAttentionArgs& args) = 0;
  virtual void FavorAttention(const FavorAttentionArgs& args);  // where has_approximations()
  virtual void StoreEncoder(const StoreEncoderArgs& args) = 0;
  virtual void CrossAttention(const CrossAttentionArgs& args) = 0;
  virtual void SelfAttention(const SelfAttentionArgs& args) = 0;
  virtual void PrefillAttention(const PrefillAttentionArgs& args) = 0;
  virtual void SelectTokens(const SelectTokensArgs& args) = 0;
  virtual void KeepLargest(const KeepLargestArgs& args);  // where has_approximations()

  // Waits for the step's prefill and decoding, and for its encoding where there is neither. What SelectTokens found
  // last in each phase that it ran in, prefill's before decoding's, each in the order of its DecodeLayout::select;
  // valid until the next BeginStep. An error is the device's.
  virtual absl::StatusOr<std::span<const SelectedRow>> Selected() = 0;

  // For tests and tools: a tensor's first rows as float32, after what was launched before. Allocates.
  virtual std::vector<float> Read(const Tensor& tensor, int64_t rows) = 0;
  virtual void Write(const Tensor& tensor, std::span<const float> values) = 0;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_BACKEND_BACKEND_H_
