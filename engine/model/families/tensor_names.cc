#include "engine/model/families/tensor_names.h"

#include <array>
#include <cstddef>
#include <initializer_list>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

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
    return {Take(BodyName(module + ".weight"), {out, in}), Take(BodyName(module + ".bias"), {out})};
  }

  NormWeights Norm(const std::string& module) {
    const int64_t d = config_.d_model;
    return {Take(BodyName(module + ".weight"), {d}), Take(BodyName(module + ".bias"), {d})};
  }

  AttentionWeights Attention(const std::string& layer, const StackConfig& stack, const AttentionNames& names) {
    const int64_t d = config_.d_model;
    const int64_t width = int64_t{stack.heads} * stack.head_dim;
    AttentionWeights weights;
    weights.q = Linear(Join(layer, names.q), width, d);
    weights.k = Linear(Join(layer, names.k), width, d);
    weights.v = Linear(Join(layer, names.v), width, d);
    weights.o = Linear(Join(layer, names.o), d, width);
    weights.norm = Norm(Join(layer, names.norm));
    return weights;
  }

  FeedForwardWeights FeedForward(const std::string& layer, const StackConfig& stack) {
    const FeedForwardNames& names = names_.feed_forward;
    FeedForwardWeights weights;
    weights.fc1 = Linear(Join(layer, names.fc1), stack.ffn, config_.d_model);
    weights.fc2 = Linear(Join(layer, names.fc2), config_.d_model, stack.ffn);
    weights.norm = Norm(Join(layer, names.norm));
    return weights;
  }

  EmbeddingWeights Embedding(const EmbeddingNames& names) {
    EmbeddingWeights weights;
    weights.tokens = Tokens(BodyName(Join(names.tokens, ".weight")), /*may_be_shared=*/true);
    weights.positions = Take(BodyName(Join(names.positions, ".weight")),
                             {int64_t{config_.max_positions} + config_.position_offset, config_.d_model});
    weights.norm = Norm(std::string(names.norm));
    return weights;
  }

  HostTensor Head() { return Tokens(Join(names_.head, ".weight"), config_.tied_head); }

 private:
  // A token embedding or the head: its own tensor, else the one that it shares.
  HostTensor Tokens(const std::string& own, bool may_be_shared) {
    std::string name = own;
    if (!checkpoint_.Has(own) && may_be_shared) {
      const std::string shared = BodyName(Join(names_.shared_tokens, ".weight"));
      name = shared;
      if (!checkpoint_.Has(shared) && config_.tied_head) {
        const std::array others = {BodyName(Join(names_.encoder_embedding.tokens, ".weight")),
                                   BodyName(Join(names_.decoder_embedding.tokens, ".weight")),
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
  weights.encoder.embedding = find.Embedding(names.encoder_embedding);
  weights.decoder.embedding = find.Embedding(names.decoder_embedding);
  for (int i = 0; i < config.encoder.layers && find.status().ok(); ++i) {
    const std::string layer = absl::StrCat(std::string(names.encoder_layers), ".", i, ".");
    weights.encoder.layers.push_back(
        {find.Attention(layer, config.encoder, names.self_attention), find.FeedForward(layer, config.encoder)});
  }
  for (int i = 0; i < config.decoder.layers && find.status().ok(); ++i) {
    const std::string layer = absl::StrCat(std::string(names.decoder_layers), ".", i, ".");
    weights.decoder.layers.push_back({find.Attention(layer, config.decoder, names.self_attention),
                                      find.Attention(layer, config.decoder, names.cross_attention),
                                      find.FeedForward(layer, config.decoder)});
  }
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
