#include "engine/model/families/tensor_names.h"

#include <array>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/families/relative_positions.h"
#include "engine/model/families/sinusoids.h"

namespace elserve {
namespace {

// Numbers of a table that no checkpoint holds: what a config states must not take memory that no file answers for.
constexpr int64_t kMostGenerated = int64_t{1} << 26;

std::string Join(std::string_view a, std::string_view b) { return std::string(a) + std::string(b); }

// Takes tensors out of the checkpoint and counts them. The first error stays in status(); lookups after it return empty
// tensors at once, so that the tables below read without an error check a line.
class Finder {
 public:
  Finder(const Checkpoint& checkpoint, const ModelConfig& config, const TensorNames& names)
      : checkpoint_(checkpoint), config_(config), names_(names) {}

  const absl::Status& status() const { return status_; }
  int64_t parameters() const { return parameters_; }

  // The body's tensor `name` under the name that it has in this checkpoint.
  std::string BodyName(std::string_view name) const {
    const std::string prefixed = Join(names_.prefix, name);
    return !checkpoint_.Has(prefixed) && checkpoint_.Has(name) ? std::string(name) : prefixed;
  }

  HostTensor Take(std::string_view name, std::initializer_list<int64_t> shape) {
    if (!status_.ok()) return {};
    absl::StatusOr<HostTensor> tensor = checkpoint_.Tensor(name, {shape.begin(), shape.size()});
    if (!tensor.ok()) {
      status_ = tensor.status();
      return {};
    }
    if (counted_.insert(tensor->data).second) parameters_ += tensor->size();
    return *std::move(tensor);
  }

  LinearWeights Linear(const std::string& module, int64_t out, int64_t in) {
    LinearWeights weights;
    if (names_.conv1d) {
      weights.weight = Take(BodyName(module + ".weight"), {in, out});
      weights.weight.shape = {out, in};
      weights.weight.transposed_from = out;
    } else {
      weights.weight = Take(BodyName(module + ".weight"), {out, in});
    }
    if (names_.linear_biases) weights.bias = Take(BodyName(module + ".bias"), {out});
    return weights;
  }

  NormWeights Norm(const std::string& module) {
    const int64_t d = config_.d_model;
    NormWeights weights{.gamma = Take(BodyName(module + ".weight"), {d}), .beta = {}};
    if (config_.norm_kind == NormKind::kLayerNorm) weights.beta = Take(BodyName(module + ".bias"), {d});
    return weights;
  }

  AttentionWeights Attention(const std::string& layer, const StackConfig& stack, const AttentionNames& names) {
    const int64_t d = config_.d_model;
    const int64_t width = int64_t{stack.heads} * stack.head_dim;
    if (!names.qkv.empty()) {
      const LinearWeights qkv = Linear(Join(layer, names.qkv), 3 * width, d);
      return {.q = Outputs(qkv, 0, width),
              .k = Outputs(qkv, width, width),
              .v = Outputs(qkv, 2 * width, width),
              .o = Linear(Join(layer, names.o), d, width),
              .norm = Norm(Join(layer, names.norm)),
              .features = {}};
    }
    AttentionWeights weights = {.q = Linear(Join(layer, names.q), width, d),
                                .k = Linear(Join(layer, names.k), width, d),
                                .v = Linear(Join(layer, names.v), width, d),
                                .o = Linear(Join(layer, names.o), d, width),
                                .norm = Norm(Join(layer, names.norm)),
                                .features = {}};
    if (stack.favor_features > 0) {
      weights.features = Take(BodyName(Join(layer, names.features)), {stack.favor_features, stack.head_dim});
    }
    return weights;
  }

  // `count` outputs of a product from `first` on, as a product of their own.
  LinearWeights Outputs(const LinearWeights& linear, int64_t first, int64_t count) const {
    LinearWeights part = linear;
    if (!status_.ok()) return part;
    const int64_t step = linear.weight.transposed_from > 0 ? 1 : linear.weight.shape[1];
    part.weight.shape[0] = count;
    part.weight.data += first * step * SizeOf(part.weight.type);
    if (part.bias) {
      part.bias->shape[0] = count;
      part.bias->data += first * SizeOf(part.bias->type);
    }
    return part;
  }

  FeedForwardWeights FeedForward(const std::string& layer, const StackConfig& stack, const FeedForwardNames& names) {
    FeedForwardWeights weights;
    const std::string_view fc1 = config_.gated_feed_forward ? names.up : names.fc1;
    weights.fc1 = Linear(Join(layer, fc1), stack.ffn, config_.d_model);
    if (config_.gated_feed_forward) weights.gate = Linear(Join(layer, names.gate), stack.ffn, config_.d_model);
    weights.fc2 = Linear(Join(layer, names.fc2), config_.d_model, stack.ffn);
    weights.norm = Norm(Join(layer, names.norm));
    return weights;
  }

  EmbeddingWeights Embedding(const EmbeddingNames& names, const StackConfig& stack, ModelWeights* weights) {
    EmbeddingWeights embedding;
    embedding.tokens = Tokens(BodyName(Join(names.tokens, ".weight")), /*may_be_shared=*/true);
    embedding.positions = PositionTable(names, stack.max_positions, weights);
    if (!names.norm.empty()) embedding.norm = Norm(std::string(names.norm));
    return embedding;
  }

  // `causal`: tokens see what stands before them alone.
  StackWeights Stack(const StackNames& names, const StackConfig& config, bool causal, ModelWeights* weights) {
    StackWeights stack;
    if (config.layers == 0) return stack;
    stack.embedding = Embedding(names.embedding, config, weights);
    stack.position_bias = PositionBias(names, config, causal, weights);
    for (int i = 0; i < config.layers && status_.ok(); ++i) {
      const std::string at = absl::StrCat(std::string(names.layers), ".", i, ".");
      LayerWeights layer;
      layer.self_attention = Attention(at, config, names.self_attention);
      if (!names.cross_attention.q.empty()) layer.cross_attention = Attention(at, config, names.cross_attention);
      layer.feed_forward = FeedForward(at, config, names.feed_forward);
      stack.layers.push_back(std::move(layer));
    }
    if (!names.final_norm.empty()) stack.final_norm = Norm(std::string(names.final_norm));
    return stack;
  }

  HostTensor Head() { return Tokens(Join(names_.head, ".weight"), config_.tied_head); }

 private:
  // A made table of `rows` by `cols` numbers as a tensor; `what` needs it.
  template <typename Make>
  std::optional<HostTensor> Generate(const std::string& what, int64_t rows, int64_t cols, ModelWeights* weights,
                                     Make&& make) {
    if (rows * cols > kMostGenerated) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat(what, " would take a table of ", rows, " x ", cols, " numbers; allowed are ", kMostGenerated));
      return std::nullopt;
    }
    weights->generated.push_back(make());
    return HostTensor{.type = DataType::kFloat32,
                      .shape = {rows, cols},
                      .data = reinterpret_cast<const std::byte*>(weights->generated.back().data())};
  }

  std::optional<PositionBiasWeights> PositionBias(const StackNames& names, const StackConfig& config, bool causal,
                                                  ModelWeights* weights) {
    const RelativeBuckets& buckets = config_.relative_buckets;
    if (buckets.buckets == 0 || !status_.ok()) return std::nullopt;
    const HostTensor learned = Take(BodyName(Join(names.position_bias, ".weight")), {buckets.buckets, config.heads});
    if (!status_.ok()) return std::nullopt;
    const int zero = config.max_tokens - 1;
    std::optional<HostTensor> table =
        Generate(absl::StrCat("a relative position bias over ", config.max_tokens, " tokens"), config.heads,
                 int64_t{zero} + (causal ? 1 : config.max_tokens), weights,
                 [&] { return RelativeBias(learned, buckets, config.max_tokens, causal); });
    if (!table) return std::nullopt;
    return PositionBiasWeights{.table = *std::move(table), .zero = zero};
  }

  // Stored, or made: sinusoids that the checkpoint leaves out are the same in every checkpoint.
  std::optional<HostTensor> PositionTable(const EmbeddingNames& names, int max_positions, ModelWeights* weights) {
    if (config_.positions == Positions::kNone || !status_.ok()) return std::nullopt;
    const int64_t rows = int64_t{max_positions} + config_.position_offset, d = config_.d_model;
    const std::string name = BodyName(Join(names.positions, ".weight"));
    if (config_.positions == Positions::kLearned || checkpoint_.Has(name)) return Take(name, {rows, d});
    return Generate(absl::StrCat("positions, of which the checkpoint has no ", name, ","), rows, d, weights,
                    [rows, d] { return Sinusoids(rows, d); });
  }

  // A token embedding or the head: its own tensor, else the one that it shares.
  HostTensor Tokens(const std::string& own, bool may_be_shared) {
    std::string name = own;
    if (!checkpoint_.Has(own) && may_be_shared) {
      const std::string shared = BodyName(Join(names_.shared_tokens, ".weight"));
      name = shared;
      if (!checkpoint_.Has(shared) && config_.tied_head) {
        const std::array others = {BodyName(Join(names_.encoder.embedding.tokens, ".weight")),
                                   BodyName(Join(names_.decoder.embedding.tokens, ".weight")),
                                   Join(names_.head, ".weight")};
        for (const std::string& other : others) {
          if (!checkpoint_.Has(other)) continue;
          name = other;
          break;
        }
      }
    }
    return Take(name, {config_.vocab_size, config_.d_model});
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const TensorNames& names_;
  absl::Status status_;
  std::set<const std::byte*> counted_;
  int64_t parameters_ = 0;
};

}  // namespace

absl::StatusOr<ModelWeights> FindWeights(const Checkpoint& checkpoint, const ModelConfig& config,
                                         const TensorNames& names) {
  Finder find(checkpoint, config, names);
  ModelWeights weights;
  weights.encoder = find.Stack(names.encoder, config.encoder, /*causal=*/false, &weights);
  weights.decoder = find.Stack(names.decoder, config.decoder, /*causal=*/true, &weights);
  weights.head = find.Head();
  if (checkpoint.Has(names.logits_bias)) {
    weights.logits_bias = find.Take(names.logits_bias, {1, config.vocab_size});
    weights.logits_bias->shape = {config.vocab_size};
  }
  if (!find.status().ok()) return find.status();
  weights.parameters = find.parameters();
  return weights;
}

}  // namespace elserve
