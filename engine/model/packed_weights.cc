#include "engine/model/packed_weights.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>

namespace elserve {
namespace {

// A matrix that a fold made, and its bias.
struct Floats {
  std::vector<float> weight, bias;
  int64_t out = 0, in = 0;
};

HostTensor View(const std::vector<float>& values, std::vector<int64_t> shape) {
  return {DataType::kFloat32, std::move(shape), reinterpret_cast<const std::byte*>(values.data())};
}

// Appends [out, in] times `scale` below what is there.
void Append(const LinearWeights& linear, float scale, Floats* to) {
  const int64_t out = linear.weight.shape[0], in = linear.weight.shape[1];
  const size_t at = to->weight.size();
  to->weight.resize(at + out * in);
  ReadFloats(linear.weight, 0, out * in, to->weight.data() + at);
  to->bias.resize(to->out + out, 0.0f);
  if (linear.bias) ReadFloats(*linear.bias, 0, out, to->bias.data() + to->out);
  for (size_t i = at; i < to->weight.size(); ++i) to->weight[i] *= scale;
  for (size_t i = to->out; i < to->bias.size(); ++i) to->bias[i] *= scale;
  to->out += out;
  to->in = in;
}

// A column of states in int8 stays as it is up to so many times the median.
constexpr float kMostSize = 4;

// Each number by their median; all 1 where that is 0 or some is no finite number.
void DivideByMedian(std::vector<float>* sizes) {
  std::vector<float> ordered = *sizes;
  const bool finite = std::all_of(ordered.begin(), ordered.end(), [](float x) { return std::isfinite(x); });
  if (finite) std::nth_element(ordered.begin(), ordered.begin() + ordered.size() / 2, ordered.end());
  const float median = ordered[ordered.size() / 2];
  for (float& size : *sizes) size = finite && median > 0 ? size / median : 1;
}

// Packs, and counts the bytes.
class Packer {
 public:
  Packer(const ModelConfig& config, const PackOptions& options, Backend& backend, int64_t* bytes)
      : config_(config), options_(options), backend_(backend), bytes_(*bytes) {}

  // Of what is packed from here on, until the next.
  void SetLayer(size_t layer, size_t layers) {
    const bool kept =
        (layer == 0 && options_.int8_keep.first_layer) || (layer + 1 == layers && options_.int8_keep.last_layer);
    type_ = options_.int8 && !kept ? WeightType::kInt8 : WeightType::kState;
  }
  void SetHead() { type_ = options_.int8 && !options_.int8_keep.head ? WeightType::kInt8 : WeightType::kState; }

  PackedWeightPtr Linear(const HostTensor& weight, const HostTensor* bias) {
    return Count(backend_.PackLinear(weight, bias, type_));
  }
  PackedWeightPtr Linear(const LinearWeights& linear) {
    return Linear(linear.weight, linear.bias ? &*linear.bias : nullptr);
  }
  PackedWeightPtr Linear(const Floats& floats) {
    const HostTensor bias = View(floats.bias, {floats.out});
    return Linear(View(floats.weight, {floats.out, floats.in}), &bias);
  }
  PackedEmbedding Embedding(const EmbeddingWeights& embedding, bool tokens) {
    PackedEmbedding packed;
    if (tokens) packed.tokens = Count(backend_.PackEmbedding(embedding.tokens));
    if (embedding.positions) packed.positions = Count(backend_.PackEmbedding(*embedding.positions));
    return packed;
  }

  PackedBias Bias(const std::optional<PositionBiasWeights>& bias) {
    if (!bias) return {};
    return {.table = Count(backend_.PackPositionBias(bias->table)), .zero = bias->zero};
  }

  PackedFeedForward FeedForward(const FeedForwardWeights& w) {
    return {.fc1 = w.gate ? Gated(*w.gate, w.fc1) : Linear(w.fc1),
            .fc2 = Linear(w.fc2),
            .top_k = options_.ffn_top_k,
            .norm = {}};
  }

  PackedEncoderLayer EncoderLayer(const LayerWeights& w) {
    const AttentionWeights& attention = w.self_attention;
    const float scale = config_.encoder.score_scale, root = std::sqrt(scale);
    return {.qkv = attention.features ? QueriesKeysValues(attention, {.q = root, .k = root})
                                      : QueriesKeysValues(attention, {.q = scale}),
            .features = attention.features ? Count(backend_.PackEmbedding(*attention.features)) : nullptr,
            .o = Linear(attention.o),
            .norm = {},
            .feed_forward = FeedForward(w.feed_forward)};
  }

  PackedDecoderAttention SelfAttention(const AttentionWeights& w, AttentionForm form) {
    if (form == AttentionForm::kEl) {
      PackedDecoderAttention packed = ElAttention(w, /*loses_weight=*/false);
      // Without biases: the keys' cancels in the softmax, the values' is in the output's.
      packed.kv = KeysValues({.weight = w.k.weight, .bias = {}}, {.weight = w.v.weight, .bias = {}});
      return packed;
    }
    PackedDecoderAttention packed;
    packed.qkv = QueriesKeysValues(w, {.q = config_.decoder.score_scale});
    packed.o = Linear(w.o);
    return packed;
  }

  // `sizes`: by which the source's columns were divided; none: by 1.
  PackedDecoderAttention CrossAttention(const AttentionWeights& w, AttentionForm form, std::span<const float> sizes) {
    if (form == AttentionForm::kEl) return ElAttention(w, options_.approximation.loses_weight(), sizes);
    PackedDecoderAttention packed;
    packed.q = Queries(w);
    packed.kv = KeysValues(w.k, w.v, sizes);
    packed.o = Linear(w.o);
    return packed;
  }

  // What follows the embedding and each of the stack's sublayers, in their order: `sublayers` are where the norms go.
  // `scales`: of the columns of the last one's output, which nothing but what follows the stack reads; none: 1.
  void Norms(const StackWeights& stack, std::span<const float> scales, std::vector<PackedNorm>* embedding,
             std::span<PackedNorm* const> sublayers) {
    const bool pre = config_.norm_placement == NormPlacement::kPre;
    std::vector<const NormWeights*> own;
    for (const LayerWeights& layer : stack.layers) {
      own.push_back(&layer.self_attention.norm);
      if (layer.cross_attention) own.push_back(&layer.cross_attention->norm);
      own.push_back(&layer.feed_forward.norm);
    }
    if (stack.embedding.norm) embedding->push_back(Norm(&*stack.embedding.norm, /*to_residual=*/true));
    if (pre) {
      embedding->push_back(Norm(own.front(), /*to_residual=*/false));
      own.erase(own.begin());
      own.push_back(stack.final_norm ? &*stack.final_norm : nullptr);
    } else if (embedding->empty()) {
      embedding->push_back(Norm(nullptr, /*to_residual=*/false));
    }
    for (size_t i = 0; i < sublayers.size(); ++i) {
      const bool last = i + 1 == sublayers.size();
      *sublayers[i] = Norm(own[i], /*to_residual=*/!pre, last ? scales : std::span<const float>());
    }
  }

  // What the columns of the encoder's output are to be divided by, 1 or more: those that are far above the others. (To
  // go by the columns of what reads them as well brought nothing: a column that nobody makes up for decides all
  // scores.)
  std::vector<float> OutputSizes(const StackWeights& encoder) const {
    const NormWeights* norm = config_.norm_placement == NormPlacement::kPost ? &encoder.layers.back().feed_forward.norm
                              : encoder.final_norm                           ? &*encoder.final_norm
                                                                             : nullptr;
    if (norm == nullptr) return {};
    const int64_t d = config_.d_model;
    // Normed numbers have a root mean square of 1.
    std::vector<float> sizes(d), beta(d);
    ReadFloats(norm->gamma, 0, d, sizes.data());
    if (norm->beta) ReadFloats(*norm->beta, 0, d, beta.data());
    for (int64_t j = 0; j < d; ++j) sizes[j] = std::hypot(sizes[j], beta[j]);
    DivideByMedian(&sizes);
    for (float& size : sizes) size = std::max(1.0f, size / kMostSize);
    return sizes;
  }

 private:
  PackedWeightPtr Count(PackedWeightPtr weight) {
    bytes_ += weight->bytes();
    return weight;
  }

  PackedNorm Norm(const NormWeights* norm, bool to_residual, std::span<const float> scales = {}) {
    if (norm == nullptr) return {};
    const auto scaled = [scales](const HostTensor& tensor) {
      std::vector<float> values(tensor.size());
      ReadFloats(tensor, 0, tensor.size(), values.data());
      for (size_t i = 0; i < scales.size(); ++i) values[i] *= scales[i];
      return values;
    };
    const std::vector<float> gamma = scaled(norm->gamma);
    const std::vector<float> beta = norm->beta ? scaled(*norm->beta) : std::vector<float>();
    const HostTensor beta_view = View(beta, norm->gamma.shape);
    return {.weight = Count(backend_.PackNorm(config_.norm_kind, View(gamma, norm->gamma.shape),
                                              norm->beta ? &beta_view : nullptr, config_.norm_epsilon)),
            .to_residual = to_residual};
  }

  PackedWeightPtr Queries(const AttentionWeights& w) {
    Floats q;
    Append(w.q, config_.decoder.score_scale, &q);
    return Linear(q);
  }

  // Of the score q.k: all of it on one side, or its square root on each.
  struct ScoreScale {
    float q, k = 1.0f;
  };
  PackedWeightPtr QueriesKeysValues(const AttentionWeights& w, ScoreScale scale) {
    Floats qkv;
    Append(w.q, scale.q, &qkv);
    Append(w.k, scale.k, &qkv);
    Append(w.v, 1.0f, &qkv);
    return Linear(qkv);
  }

  PackedWeightPtr KeysValues(const LinearWeights& k, const LinearWeights& v, std::span<const float> sizes = {}) {
    Floats kv;
    Append(k, 1.0f, &kv);
    Append(v, 1.0f, &kv);
    for (size_t i = 0; i < kv.weight.size() && !sizes.empty(); ++i) kv.weight[i] *= sizes[i % sizes.size()];
    return Linear(kv);
  }

  PackedDecoderAttention ElAttention(const AttentionWeights& w, bool loses_weight, std::span<const float> sizes = {}) {
    PackedDecoderAttention packed;
    packed.q = Queries(w);
    packed.absorb = Absorb(w.k, sizes);
    packed.expand_bias = loses_weight && w.v.bias.has_value();
    packed.expand = Expand(w.v, packed.expand_bias, sizes);
    packed.o = loses_weight ? Linear(w.o) : OutputWithValueBias(w);
    return packed;
  }

  PackedWeightPtr Gated(const LinearWeights& gate, const LinearWeights& up) {
    return Count(backend_.PackGatedLinear({.gate = gate.weight,
                                           .up = up.weight,
                                           .gate_bias = gate.bias ? &*gate.bias : nullptr,
                                           .up_bias = up.bias ? &*up.bias : nullptr,
                                           .type = type_}));
  }

  // W_K,i^T: [head_dim, d] for each head, which is W_K as it is, but for its columns' sizes.
  PackedWeightPtr Absorb(const LinearWeights& k, std::span<const float> sizes) {
    const std::vector<int64_t> shape = {config_.decoder.heads, config_.decoder.head_dim, config_.d_model};
    if (sizes.empty()) {
      HostTensor keys = k.weight;
      keys.shape = shape;
      return Count(backend_.PackPerHead(keys, nullptr, type_));
    }
    std::vector<float> keys(k.weight.size());
    ReadFloats(k.weight, 0, k.weight.size(), keys.data());
    for (size_t i = 0; i < keys.size(); ++i) keys[i] *= sizes[i % sizes.size()];
    return Count(backend_.PackPerHead(View(keys, shape), nullptr, type_));
  }

  // W_V,i: [d, head_dim] for each head; `biased`: and its bias.
  PackedWeightPtr Expand(const LinearWeights& v, bool biased, std::span<const float> sizes) {
    const int64_t heads = config_.decoder.heads, head_dim = config_.decoder.head_dim, d = config_.d_model;
    std::vector<float> rows(heads * head_dim * d), turned(rows.size());
    ReadFloats(v.weight, 0, static_cast<int64_t>(rows.size()), rows.data());
    for (int64_t i = 0; i < heads * head_dim; ++i) {
      for (int64_t j = 0; j < d; ++j) {
        const float size = sizes.empty() ? 1 : sizes[j];
        turned[(i / head_dim * d + j) * head_dim + i % head_dim] = rows[i * d + j] * size;
      }
    }
    return Count(backend_.PackPerHead(View(turned, {heads, d, head_dim}), biased ? &*v.bias : nullptr, type_));
  }

  // W_O with the bias b_V W_O + b_O: each row of attention weights sums to 1.
  PackedWeightPtr OutputWithValueBias(const AttentionWeights& w) {
    Floats o;
    Append(w.o, 1.0f, &o);
    if (w.v.bias) {
      std::vector<float> value_bias(o.in);
      ReadFloats(*w.v.bias, 0, o.in, value_bias.data());
      for (int64_t i = 0; i < o.out; ++i) {
        double sum = o.bias[i];
        for (int64_t j = 0; j < o.in; ++j) sum += static_cast<double>(o.weight[i * o.in + j]) * value_bias[j];
        o.bias[i] = static_cast<float>(sum);
      }
    }
    return Linear(o);
  }

  const ModelConfig& config_;
  const PackOptions& options_;
  Backend& backend_;
  int64_t& bytes_;
  WeightType type_ = WeightType::kState;
};

}  // namespace

int64_t PackedNumbers(const ModelWeights& weights) {
  const std::byte* head = weights.head.data;
  const bool tied = head == weights.encoder.embedding.tokens.data || head == weights.decoder.embedding.tokens.data;
  int64_t numbers = weights.parameters + (tied ? weights.head.size() : 0);
  for (const LayerWeights& layer : weights.decoder.layers) {
    numbers += layer.self_attention.k.weight.size() + layer.self_attention.v.weight.size();
  }
  return numbers;
}

PackedModel PackModel(const ModelConfig& config, const ModelWeights& weights, const PackOptions& options,
                      Backend& backend) {
  PackedModel packed;
  packed.approximation = options.approximation;
  const AttentionForms forms = options.forms;
  Packer packer(config, options, backend, &packed.bytes);
  const bool rounds = (options.int8 || options.int8_memory) && !config.decoder_only();
  const std::vector<float> sizes = rounds ? packer.OutputSizes(weights.encoder) : std::vector<float>();
  if (!config.decoder_only()) {
    const bool shared = weights.encoder.embedding.tokens.data == weights.decoder.embedding.tokens.data;
    packed.encoder_embedding = packer.Embedding(weights.encoder.embedding, !shared);
    packed.encoder_bias = packer.Bias(weights.encoder.position_bias);
    for (const LayerWeights& layer : weights.encoder.layers) {
      packer.SetLayer(packed.encoder.size(), weights.encoder.layers.size());
      packed.encoder.push_back(packer.EncoderLayer(layer));
    }
  }
  packed.decoder_embedding = packer.Embedding(weights.decoder.embedding, true);
  packed.decoder_bias = packer.Bias(weights.decoder.position_bias);
  for (const LayerWeights& layer : weights.decoder.layers) {
    packer.SetLayer(packed.decoder.size(), weights.decoder.layers.size());
    packed.decoder.push_back({.self_attention = packer.SelfAttention(layer.self_attention, forms.self),
                              .cross_attention = {},
                              .feed_forward = packer.FeedForward(layer.feed_forward)});
    if (layer.cross_attention) {
      packed.decoder.back().cross_attention = packer.CrossAttention(*layer.cross_attention, *forms.cross, sizes);
    }
  }
  std::vector<PackedNorm*> encoder_norms, decoder_norms;
  for (PackedEncoderLayer& layer : packed.encoder) {
    encoder_norms.insert(encoder_norms.end(), {&layer.norm, &layer.feed_forward.norm});
  }
  for (PackedDecoderLayer& layer : packed.decoder) {
    decoder_norms.push_back(&layer.self_attention.norm);
    if (layer.cross_attention) decoder_norms.push_back(&layer.cross_attention->norm);
    decoder_norms.push_back(&layer.feed_forward.norm);
  }
  std::vector<float> scales(sizes.size());
  std::transform(sizes.begin(), sizes.end(), scales.begin(), [](float size) { return 1 / size; });
  if (!config.decoder_only()) packer.Norms(weights.encoder, scales, &packed.encoder_embedding.norms, encoder_norms);
  scales.assign(config.d_model, config.head_scale);
  packer.Norms(weights.decoder, scales, &packed.decoder_embedding.norms, decoder_norms);
  packer.SetHead();
  packed.head = packer.Linear(weights.head, weights.logits_bias ? &*weights.logits_bias : nullptr);
  return packed;
}

}  // namespace elserve
