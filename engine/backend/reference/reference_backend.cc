#include "engine/backend/reference/reference_backend.h"

#include <algorithm>
#include <exception>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/reference/layout_rules.h"
#include "engine/backend/reference/operations.h"
#include "engine/backend/reference/require.h"
#include "engine/backend/reference/weights.h"

namespace elserve {
namespace {

using reference::Activate;
using reference::Attend;
using reference::Dot;
using reference::EmbeddingWeight;
using reference::GatedWeight;
using reference::LinearWeight;
using reference::NormWeight;
using reference::PerHeadWeight;
using reference::PositionBiasWeight;
using reference::Require;
using reference::StateLayout;

const float* Row(const Tensor& tensor, int64_t row) {
  return reinterpret_cast<const float*>(tensor.data) + row * tensor.cols;
}
float* MutableRow(const Tensor& tensor, int64_t row) {
  return reinterpret_cast<float*>(tensor.data) + row * tensor.cols;
}

template <typename Weight>
const Weight& As(const PackedWeight* weight) {
  const auto* typed = dynamic_cast<const Weight*>(weight);
  Require(typed != nullptr, "an operation gets a weight from the matching Pack function");
  return *typed;
}

// What a product reads of n numbers of a row.
std::vector<float> InputOf(const float* row, int64_t n, bool int8) {
  std::vector<float> input(row, row + n);
  if (int8) reference::RoundToInt8(input.data(), n);
  return input;
}

class ReferenceBackend final : public Backend {
 public:
  std::string name() const override { return "reference"; }
  std::string device_name() const override { return "plain loops on one thread"; }
  DataType state_type() const override { return DataType::kFloat32; }

  bool has_int8() const override { return true; }
  PackedWeightPtr PackLinear(const HostTensor& weight, const HostTensor* bias, WeightType type) override {
    return reference::MakeLinear(weight, bias, type);
  }
  PackedWeightPtr PackGatedLinear(const GatedWeights& weights) override { return reference::MakeGated(weights); }
  PackedWeightPtr PackPerHead(const HostTensor& weight, const HostTensor* bias, WeightType type) override {
    return reference::MakePerHead(weight, bias, type);
  }
  PackedWeightPtr PackEmbedding(const HostTensor& table) override { return reference::MakeEmbedding(table); }
  PackedWeightPtr PackNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon) override {
    return reference::MakeNorm(kind, gamma, beta, epsilon);
  }
  PackedWeightPtr PackPositionBias(const HostTensor& table) override { return reference::MakePositionBias(table); }

  bool has_approximations() const override { return true; }
  // Of plain loops; nobody serves with them.
  OperationFigures Figures() const override {
    return {.product_flops = 1e9,
            .el_attention_flops = 1e9,
            .kv_attention_flops = 1e9,
            .el_self_attention_flops = 1e9,
            .kv_self_attention_flops = 1e9,
            .int8_el_attention_flops = 1e9,
            .int8_el_self_attention_flops = 1e9,
            .bytes_per_second = 10e9};
  }
  StepSizes PreferredSizes() const override { return {.max_rows = kMaxBeams, .encode_tokens_per_step = 512}; }
  MemoryCosts Costs(const MemoryShape& shape) const override;
  absl::Status AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                              const StepLimits& limits) override;
  absl::StatusOr<Tensor> AllocateTensor(int64_t rows, int64_t cols, Storage storage) override;

  void BeginStep(const StepLayout& layout) override;
  void Replay(absl::FunctionRef<void()> body) override { body(); }

  void Embed(const EmbedArgs& args) override;
  void Linear(const LinearArgs& args) override;
  void PerHeadLinear(const PerHeadLinearArgs& args) override;
  void Norm(const NormArgs& args) override;
  void EncoderAttention(const EncoderAttentionArgs& args) override;
  void FavorAttention(const FavorAttentionArgs& args) override;
  void StoreEncoder(const StoreEncoderArgs& args) override;
  void CrossAttention(const CrossAttentionArgs& args) override;
  void SelfAttention(const SelfAttentionArgs& args) override;
  void PrefillAttention(const PrefillAttentionArgs& args) override;
  void SelectTokens(const SelectTokensArgs& args) override;
  void KeepLargest(const KeepLargestArgs& args) override;
  absl::StatusOr<std::span<const SelectedRow>> Selected() override { return std::span<const SelectedRow>(selected_); }

  std::vector<float> Read(const Tensor& tensor, int64_t rows) override;
  void Write(const Tensor& tensor, std::span<const float> values) override;

 private:
  // Values that a source token (of the form `shape.cross`) or a cell (`shape.self`) holds in one layer; of no form
  // none.
  static int64_t StateWidth(const MemoryShape& shape, std::optional<AttentionForm> form) {
    if (!form) return 0;
    return form == AttentionForm::kEl ? shape.d : int64_t{2} * shape.heads * shape.head_dim;
  }

  // Of kPrefill or kDecode.
  const DecodeLayout& Layout(Phase phase) const { return phase == Phase::kPrefill ? layout_.prefill : layout_.decode; }
  int64_t Positions(Phase phase) const {
    return phase == Phase::kEncode ? layout_.encode.positions() : Layout(phase).positions();
  }
  // Source token t of a document with these pages, as StoreEncoder left it. encoder_[layer]: [page][64][width].
  float* EncoderState(int layer, std::span<const int32_t> pages, int64_t t);
  // encoder_'s counterpart, decoder_[layer]: [block][16][width].
  float* DecoderState(int layer, int64_t cell) { return &decoder_[layer][cell * StateWidth(shape_, shape_.self)]; }
  StateLayout MemoryLayout(AttentionForm form) const {
    return form == AttentionForm::kEl ? reference::HiddenStates(shape_.heads, shape_.d)
                                      : reference::KeysAndValues(shape_.heads, shape_.head_dim);
  }
  // A query's or an attention output's values.
  int64_t QueryWidth(AttentionForm form) const {
    return int64_t{shape_.heads} * (form == AttentionForm::kEl ? shape_.d : shape_.head_dim);
  }
  // What `bias` adds for a query at `position`.
  static float BiasOf(const PositionBias& bias, int head, int64_t key, int64_t position);
  void RequireTensor(const Tensor& tensor, Phase phase, int64_t cols, Storage storage) const;
  // What memory of the form holds of a row.
  void Keep(const float* row, std::optional<AttentionForm> form, float* kept) const;
  // A position's query as attention in the form takes it.
  std::vector<float> QueryOf(const float* row, AttentionForm form) const;
  void StoreCells(Phase phase, int layer, const Tensor& states);
  std::vector<float> KeyAndValue(const LinearWeight& weight, const float* state) const;

  MemoryShape shape_;
  reference::MemorySize size_;
  std::vector<std::vector<float>> encoder_;
  std::vector<std::vector<float>> decoder_;
  std::vector<std::vector<float>> tensors_;
  StepLayout layout_;
  std::vector<std::vector<Candidate>> candidates_;  // of each select row
  std::vector<std::vector<float>> whole_;           // of each: its logits, where they are wanted
  std::vector<SelectedRow> selected_;
  size_t prefill_selected_ = 0;  // the first ones: prefill's
};

MemoryCosts ReferenceBackend::Costs(const MemoryShape& shape) const {
  constexpr auto kBytes = static_cast<int64_t>(sizeof(float));
  return {.per_encoder_page = kPageTokens * shape.encoder_layers() * StateWidth(shape, shape.cross) * kBytes,
          .per_decoder_block = kBlockCells * int64_t{shape.layers} * StateWidth(shape, shape.self) * kBytes};
}

absl::Status ReferenceBackend::AllocateMemory(const MemoryShape& shape, int64_t encoder_pages, int64_t decoder_blocks,
                                              const StepLimits& limits) {
  Require(encoder_.empty() && decoder_.empty(), "AllocateMemory is called once");
  shape_ = shape;
  size_ = {.cross_attention = shape.cross.has_value(),
           .encoder_pages = encoder_pages,
           .decoder_blocks = decoder_blocks,
           .limits = limits};
  try {
    encoder_.assign(shape.encoder_layers(),
                    std::vector<float>(encoder_pages * kPageTokens * StateWidth(shape, shape.cross)));
    decoder_.assign(shape.layers, std::vector<float>(decoder_blocks * kBlockCells * StateWidth(shape, shape.self)));
  } catch (const std::exception&) {
    return absl::ResourceExhaustedError("no room for " + std::to_string(encoder_pages) + " encoder pages and " +
                                        std::to_string(decoder_blocks) + " decoder blocks");
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> ReferenceBackend::AllocateTensor(int64_t rows, int64_t cols, Storage storage) {
  try {
    tensors_.emplace_back(rows * cols);
  } catch (const std::exception&) {
    return absl::ResourceExhaustedError("no room for a tensor of " + std::to_string(rows) + " x " +
                                        std::to_string(cols));
  }
  return Tensor{
      .data = reinterpret_cast<std::byte*>(tensors_.back().data()), .rows = rows, .cols = cols, .storage = storage};
}

void ReferenceBackend::BeginStep(const StepLayout& layout) {
  reference::RequireValid(layout.encode, size_);
  reference::RequireValid(layout.prefill, Phase::kPrefill, size_);
  reference::RequireValid(layout.decode, Phase::kDecode, size_);
  layout_ = layout;
  selected_.clear();
  prefill_selected_ = 0;
}

void ReferenceBackend::RequireTensor(const Tensor& tensor, Phase phase, int64_t cols, Storage storage) const {
  Require(tensor.data != nullptr && tensor.rows >= Positions(phase), "a tensor has room for all positions");
  Require(tensor.cols == cols, "a tensor has the columns of its operation");
  Require(tensor.storage == storage, "a tensor has the storage that its operation reads or writes");
}

void ReferenceBackend::Embed(const EmbedArgs& args) {
  const auto& table = As<EmbeddingWeight>(args.tokens);
  const EmbeddingWeight* places = args.positions != nullptr ? &As<EmbeddingWeight>(args.positions) : nullptr;
  Require(places == nullptr || places->d == table.d, "token and position embeddings are equally wide");
  RequireTensor(args.output, args.phase, table.d, Storage::kResidual);
  const bool encode = args.phase == Phase::kEncode;
  const std::span<const int32_t> tokens = encode ? layout_.encode.tokens : Layout(args.phase).tokens;
  const std::span<const int32_t> ids = encode ? layout_.encode.position_ids : Layout(args.phase).position_ids;
  for (size_t p = 0; p < tokens.size(); ++p) {
    Require(tokens[p] >= 0 && tokens[p] < table.rows, "a token is in the embedding table");
    const float* token = &table.values[tokens[p] * table.d];
    float* output = MutableRow(args.output, static_cast<int64_t>(p));
    for (int64_t j = 0; j < table.d; ++j) output[j] = token[j] * args.scale;
    if (places == nullptr) continue;
    const int64_t place = int64_t{ids[p]} + args.position_offset;
    Require(place >= 0 && place < places->rows, "a position is in the position table");
    for (int64_t j = 0; j < table.d; ++j) output[j] += places->values[place * table.d + j];
  }
}

void ReferenceBackend::Linear(const LinearArgs& args) {
  const auto* gated = dynamic_cast<const GatedWeight*>(args.weight);
  const LinearWeight& weight = gated != nullptr ? gated->gate : As<LinearWeight>(args.weight);
  RequireTensor(args.input, args.phase, weight.in, Storage::kState);
  RequireTensor(args.output, args.phase, weight.out, args.output.storage);
  if (args.residual != nullptr) RequireTensor(*args.residual, args.phase, weight.out, Storage::kResidual);
  const auto product = [](const LinearWeight& w, const float* input, int64_t o) {
    return Dot(input, &w.values[o * w.in], w.in) + w.bias[o];
  };
  for (int64_t p = 0; p < Positions(args.phase); ++p) {
    const std::vector<float> row = InputOf(Row(args.input, p), weight.in, weight.int8);
    const float* input = row.data();
    for (int64_t o = 0; o < weight.out; ++o) {
      double y = Activate(args.activation, product(weight, input, o));
      if (gated != nullptr) y *= product(gated->up, input, o);
      if (args.residual != nullptr) y += Row(*args.residual, p)[o];
      MutableRow(args.output, p)[o] = static_cast<float>(y);
    }
  }
}

void ReferenceBackend::PerHeadLinear(const PerHeadLinearArgs& args) {
  const auto& weight = As<PerHeadWeight>(args.weight);
  RequireTensor(args.input, args.phase, weight.heads * weight.in, Storage::kState);
  RequireTensor(args.output, args.phase, weight.heads * weight.out, Storage::kState);
  Require((args.totals != nullptr) == !weight.bias.empty(), "totals are there for a bias");
  if (args.totals != nullptr) RequireTensor(*args.totals, args.phase, weight.heads, Storage::kResidual);
  for (int64_t p = 0; p < Positions(args.phase); ++p) {
    for (int64_t head = 0; head < weight.heads; ++head) {
      const std::vector<float> input = InputOf(Row(args.input, p) + head * weight.in, weight.in, weight.int8);
      const float* values = &weight.values[head * weight.in * weight.out];
      for (int64_t o = 0; o < weight.out; ++o) {
        double sum = 0;
        for (int64_t i = 0; i < weight.in; ++i) sum += static_cast<double>(input[i]) * values[i * weight.out + o];
        if (args.totals != nullptr) sum += Row(*args.totals, p)[head] * weight.bias[head * weight.out + o];
        MutableRow(args.output, p)[head * weight.out + o] = static_cast<float>(sum);
      }
    }
  }
}

void ReferenceBackend::Norm(const NormArgs& args) {
  const NormWeight* weight = args.weight != nullptr ? &As<NormWeight>(args.weight) : nullptr;
  const int64_t d = weight != nullptr ? static_cast<int64_t>(weight->gamma.size()) : args.input.cols;
  RequireTensor(args.input, args.phase, d, Storage::kResidual);
  RequireTensor(args.state, args.phase, d, Storage::kState);
  if (args.residual != nullptr) RequireTensor(*args.residual, args.phase, d, Storage::kResidual);
  Require(weight != nullptr || args.residual == nullptr, "without a weight, a norm only rounds");
  for (int64_t p = 0; p < Positions(args.phase); ++p) {
    float* state = MutableRow(args.state, p);
    if (weight != nullptr) {
      reference::NormRow(*weight, Row(args.input, p), state);
    } else {
      std::copy_n(Row(args.input, p), d, state);
    }
    if (args.residual != nullptr) std::copy_n(state, d, MutableRow(*args.residual, p));
  }
}

float ReferenceBackend::BiasOf(const PositionBias& bias, int head, int64_t key, int64_t position) {
  if (bias.table == nullptr) return 0.0f;
  const auto& table = As<PositionBiasWeight>(bias.table);
  const int64_t column = key - position + bias.zero;
  Require(head < table.heads && column >= 0 && column < table.distances, "a bias table reaches every distance");
  return table.values[head * table.distances + column];
}

void ReferenceBackend::EncoderAttention(const EncoderAttentionArgs& args) {
  const int64_t width = int64_t{args.heads} * args.head_dim;
  RequireTensor(args.qkv, Phase::kEncode, 3 * width, Storage::kState);
  RequireTensor(args.output, Phase::kEncode, width, Storage::kState);
  const StateLayout layout = reference::KeysAndValues(args.heads, args.head_dim);
  for (const EncodeDocument& document : layout_.encode.documents) {
    std::vector<const float*> states;  // of each token: its key and value, which follow its query
    for (int64_t t = 0; t < document.length; ++t) states.push_back(Row(args.qkv, document.begin + t) + width);
    for (int64_t p = document.begin; p < document.begin + document.length; ++p) {
      const auto bias = [&](int head, int64_t t) { return BiasOf(args.bias, head, t, p - document.begin); };
      Attend({.layout = layout,
              .query = Row(args.qkv, p),
              .states = states,
              .bias = bias,
              .approximation = args.approximation,
              .output = MutableRow(args.output, p)});
    }
  }
}

void ReferenceBackend::FavorAttention(const FavorAttentionArgs& args) {
  const auto& features = As<EmbeddingWeight>(args.features);
  const int64_t width = int64_t{args.heads} * args.head_dim;
  Require(features.d == args.head_dim && features.rows > 0, "features are as wide as a head");
  RequireTensor(args.qkv, Phase::kEncode, 3 * width, Storage::kState);
  RequireTensor(args.output, Phase::kEncode, width, Storage::kState);
  for (const EncodeDocument& document : layout_.encode.documents) {
    for (int64_t head = 0; head < args.heads; ++head) {
      const float* q = Row(args.qkv, document.begin) + head * args.head_dim;
      reference::AttendFavor({.features = features.values,
                              .head_dim = args.head_dim,
                              .tokens = document.length,
                              .q = q,
                              .k = q + width,
                              .v = q + 2 * width,
                              .stride = args.qkv.cols,
                              .output = MutableRow(args.output, document.begin) + head * args.head_dim,
                              .output_stride = args.output.cols});
    }
  }
}

float* ReferenceBackend::EncoderState(int layer, std::span<const int32_t> pages, int64_t t) {
  const int64_t token = pages[t / kPageTokens] * int64_t{kPageTokens} + t % kPageTokens;
  return &encoder_[shape_.cross == AttentionForm::kEl ? 0 : layer][token * StateWidth(shape_, shape_.cross)];
}

void ReferenceBackend::Keep(const float* row, std::optional<AttentionForm> form, float* kept) const {
  std::copy_n(row, StateWidth(shape_, form), kept);
  if (shape_.int8 && form == AttentionForm::kEl) reference::RoundStateToInt8(kept, shape_.d);
}

std::vector<float> ReferenceBackend::QueryOf(const float* row, AttentionForm form) const {
  std::vector<float> query(row, row + QueryWidth(form));
  if (shape_.int8 && form == AttentionForm::kEl) {
    for (int head = 0; head < shape_.heads; ++head)
      reference::RoundStateToInt8(&query[int64_t{head} * shape_.d], shape_.d);
  }
  return query;
}

void ReferenceBackend::StoreEncoder(const StoreEncoderArgs& args) {
  const int64_t width = StateWidth(shape_, shape_.cross);
  Require(args.layer >= 0 && args.layer < shape_.encoder_layers(), "StoreEncoder's layer is 0 (el) or the decoder's");
  RequireTensor(args.states, Phase::kEncode, width, Storage::kState);
  for (const EncodeDocument& document : layout_.encode.documents) {
    if (document.pages.empty()) continue;
    for (int64_t t = 0; t < document.length; ++t) {
      Keep(Row(args.states, document.begin + t), shape_.cross, EncoderState(args.layer, document.pages, t));
    }
  }
}

void ReferenceBackend::CrossAttention(const CrossAttentionArgs& args) {
  Require(shape_.cross.has_value(), "there is cross-attention");
  Require(args.layer >= 0 && args.layer < shape_.layers, "a layer is the decoder's");
  RequireTensor(args.query, args.phase, QueryWidth(*shape_.cross), Storage::kState);
  RequireTensor(args.output, args.phase, QueryWidth(*shape_.cross), Storage::kState);
  if (args.totals != nullptr) {
    Require(shape_.cross == AttentionForm::kEl, "totals are el's");
    RequireTensor(*args.totals, args.phase, shape_.heads, Storage::kResidual);
  }
  for (const DecodeDocument& document : Layout(args.phase).documents) {
    const bool biased = args.biased && !document.bias.empty();
    const auto bias = [&](int head, int64_t t) { return biased ? document.bias[head * document.length + t] : 0.0f; };
    std::vector<const float*> states;
    for (int64_t t = 0; t < document.length; ++t) states.push_back(EncoderState(args.layer, document.pages, t));
    for (int64_t p = document.begin; p < document.begin + document.positions; ++p) {
      Attend({.layout = MemoryLayout(*shape_.cross),
              .query = QueryOf(Row(args.query, p), *shape_.cross).data(),
              .states = states,
              .bias = bias,
              .approximation = args.approximation,
              .output = MutableRow(args.output, p),
              .totals = args.totals != nullptr ? MutableRow(*args.totals, p) : nullptr});
    }
  }
}

// Of all positions of the phase: a later one of a row reads the earlier ones of the same step.
void ReferenceBackend::StoreCells(Phase phase, int layer, const Tensor& states) {
  const bool el = shape_.self == AttentionForm::kEl;
  const int64_t width = StateWidth(shape_, shape_.self), query_width = el ? 0 : QueryWidth(AttentionForm::kKv);
  Require(layer >= 0 && layer < shape_.layers, "a layer is the decoder's");
  RequireTensor(states, phase, query_width + width, Storage::kState);
  for (const DecodeRow& row : Layout(phase).rows) {
    for (int64_t j = 0; j < row.positions; ++j) {
      Keep(Row(states, row.begin + j) + query_width, shape_.self, DecoderState(layer, row.ancestry[row.first + j]));
    }
  }
}

void ReferenceBackend::SelfAttention(const SelfAttentionArgs& args) {
  const bool el = shape_.self == AttentionForm::kEl;
  if (el) RequireTensor(args.query, Phase::kDecode, QueryWidth(shape_.self), Storage::kState);
  RequireTensor(args.output, Phase::kDecode, QueryWidth(shape_.self), Storage::kState);
  StoreCells(Phase::kDecode, args.layer, args.states);
  for (const DecodeRow& row : layout_.decode.rows) {
    std::vector<const float*> states;
    for (const int32_t cell : row.ancestry) states.push_back(DecoderState(args.layer, cell));
    const auto bias = [&](int head, int64_t t) { return BiasOf(args.bias, head, t, row.first); };
    Attend({.layout = MemoryLayout(shape_.self),
            .query = QueryOf(Row(el ? args.query : args.states, row.begin), shape_.self).data(),
            .states = states,
            .bias = bias,
            .output = MutableRow(args.output, row.begin)});
  }
}

void ReferenceBackend::PrefillAttention(const PrefillAttentionArgs& args) {
  const bool el = shape_.self == AttentionForm::kEl;
  const int64_t width = QueryWidth(AttentionForm::kKv);
  if (el) RequireTensor(args.query, Phase::kPrefill, width, Storage::kState);
  RequireTensor(args.output, Phase::kPrefill, width, Storage::kState);
  Require(el == (args.keys_values != nullptr), "keys_values comes with states that are no keys and values");
  StoreCells(Phase::kPrefill, args.layer, args.states);
  for (const DecodeRow& row : layout_.prefill.rows) {
    std::vector<std::vector<float>> made;
    std::vector<const float*> states;  // keys and values
    for (const int32_t cell : row.ancestry) {
      const float* state = DecoderState(args.layer, cell);
      if (el) state = made.emplace_back(KeyAndValue(As<LinearWeight>(args.keys_values), state)).data();
      states.push_back(state);
    }
    for (int64_t j = 0; j < row.positions; ++j) {
      const int64_t position = row.first + j;
      const auto bias = [&](int head, int64_t t) { return BiasOf(args.bias, head, t, position); };
      Attend({.layout = MemoryLayout(AttentionForm::kKv),
              .query = Row(el ? args.query : args.states, row.begin + j),
              .states = std::span(states).first(position + 1),
              .bias = bias,
              .output = MutableRow(args.output, row.begin + j)});
    }
  }
}

std::vector<float> ReferenceBackend::KeyAndValue(const LinearWeight& weight, const float* state) const {
  Require(weight.in == shape_.d && weight.out == 2 * QueryWidth(AttentionForm::kKv), "keys_values is [2a, d]");
  std::vector<float> values(weight.out);
  const std::vector<float> input = InputOf(state, weight.in, weight.int8);
  for (int64_t o = 0; o < weight.out; ++o) {
    values[o] = static_cast<float>(Dot(input.data(), &weight.values[o * weight.in], weight.in) + weight.bias[o]);
  }
  return values;
}

void ReferenceBackend::SelectTokens(const SelectTokensArgs& args) {
  const auto& weight = As<LinearWeight>(args.weight);
  RequireTensor(args.input, args.phase, weight.in, Storage::kState);
  const std::span<const SelectRow> rows = Layout(args.phase).select;
  const size_t before = args.phase == Phase::kDecode ? prefill_selected_ : 0;
  if (args.phase == Phase::kPrefill) prefill_selected_ = rows.size();
  candidates_.resize(before + rows.size());
  whole_.resize(before + rows.size());
  selected_.resize(before + rows.size());
  std::vector<float> logits(weight.out);
  for (size_t r = 0; r < rows.size(); ++r) {
    for (int32_t token : rows[r].force)
      Require(token >= 0 && token < weight.out, "a forced token is in the vocabulary");
    std::set<int32_t> edited;
    for (const LogitEdit& edit : rows[r].edits) {
      Require(edit.token >= 0 && edit.token < weight.out, "an edited token is in the vocabulary");
      Require(edited.insert(edit.token).second, "a token has one edit at most");
    }
    const std::vector<float> input = InputOf(Row(args.input, rows[r].position), weight.in, weight.int8);
    for (int64_t o = 0; o < weight.out; ++o) {
      const double logit = Dot(input.data(), &weight.values[o * weight.in], weight.in);
      logits[o] = static_cast<float>(logit + weight.bias[o]);
    }
    if (rows[r].whole) {
      Require(args.phase == Phase::kDecode, "whole rows are decoding's");
      whole_[before + r] = logits;
      selected_[before + r] = {.logits = whole_[before + r]};
      continue;
    }
    std::vector<Candidate>& candidates = candidates_[before + r];
    const bool finite = reference::SelectCandidates(rows[r], logits, &candidates);
    selected_[before + r] = {.candidates = candidates, .finite = finite};
  }
}

void ReferenceBackend::KeepLargest(const KeepLargestArgs& args) {
  Require(args.count >= 1, "KeepLargest keeps at least one value");
  RequireTensor(args.values, args.phase, args.values.cols, Storage::kState);
  for (int64_t p = 0; p < Positions(args.phase); ++p) {
    std::vector<double> values(Row(args.values, p), Row(args.values, p) + args.values.cols);
    reference::KeepLargest(args.count, 0, values);
    std::copy(values.begin(), values.end(), MutableRow(args.values, p));
  }
}

std::vector<float> ReferenceBackend::Read(const Tensor& tensor, int64_t rows) {
  Require(rows <= tensor.rows, "Read stays within the tensor");
  return {Row(tensor, 0), Row(tensor, rows)};
}

void ReferenceBackend::Write(const Tensor& tensor, std::span<const float> values) {
  Require(static_cast<int64_t>(values.size()) <= tensor.rows * tensor.cols, "Write stays within the tensor");
  std::copy(values.begin(), values.end(), MutableRow(tensor, 0));
}

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace elserve
