#include "engine/model/families/t5.h"

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/families/activation.h"
#include "engine/model/families/config_reader.h"
#include "engine/model/families/relative_positions.h"

namespace elserve {

constinit const TensorNames kT5Names = {
    .prefix = "",
    .shared_tokens = "shared",
    .encoder = {.embedding = {.tokens = "encoder.embed_tokens", .positions = {}, .norm = {}},
                .layers = "encoder.block",
                .self_attention = {.q = "layer.0.SelfAttention.q",
                                   .k = "layer.0.SelfAttention.k",
                                   .v = "layer.0.SelfAttention.v",
                                   .o = "layer.0.SelfAttention.o",
                                   .norm = "layer.0.layer_norm"},
                .cross_attention = {},
                .feed_forward = {.fc1 = "layer.1.DenseReluDense.wi",
                                 .gate = "layer.1.DenseReluDense.wi_0",
                                 .up = "layer.1.DenseReluDense.wi_1",
                                 .fc2 = "layer.1.DenseReluDense.wo",
                                 .norm = "layer.1.layer_norm"},
                .final_norm = "encoder.final_layer_norm",
                .position_bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"},
    .decoder = {.embedding = {.tokens = "decoder.embed_tokens", .positions = {}, .norm = {}},
                .layers = "decoder.block",
                .self_attention = {.q = "layer.0.SelfAttention.q",
                                   .k = "layer.0.SelfAttention.k",
                                   .v = "layer.0.SelfAttention.v",
                                   .o = "layer.0.SelfAttention.o",
                                   .norm = "layer.0.layer_norm"},
                .cross_attention = {.q = "layer.1.EncDecAttention.q",
                                    .k = "layer.1.EncDecAttention.k",
                                    .v = "layer.1.EncDecAttention.v",
                                    .o = "layer.1.EncDecAttention.o",
                                    .norm = "layer.1.layer_norm"},
                .feed_forward = {.fc1 = "layer.2.DenseReluDense.wi",
                                 .gate = "layer.2.DenseReluDense.wi_0",
                                 .up = "layer.2.DenseReluDense.wi_1",
                                 .fc2 = "layer.2.DenseReluDense.wo",
                                 .norm = "layer.2.layer_norm"},
                .final_norm = "decoder.final_layer_norm",
                .position_bias = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias"},
    .linear_biases = false,
    .head = "lm_head",
    .logits_bias = {},
};

namespace {

constexpr int kUsualTokens = 1024;
constexpr int kMaxBuckets = 4096;

// What T5Config and MT5Config leave out of config.json.
struct Defaults {
  int vocab_size, d_ff, layers, heads;
  std::string_view feed_forward_proj;
  int32_t decoder_start_token_id;
};

void ReadShapes(const ConfigFile& file, const Defaults& defaults, ConfigReader& read, ModelConfig* config) {
  config->vocab_size = read.Size("vocab_size", defaults.vocab_size, kMaxVocabulary);
  config->d_model = read.Size(read.Key("hidden_size", "d_model"), 512, kMaxWidth);
  config->encoder.layers = read.Size(read.Key("num_hidden_layers", "num_layers"), defaults.layers, kMaxLayers);
  config->decoder.layers =
      file.Has("num_decoder_layers") ? read.Size("num_decoder_layers", 1, kMaxLayers) : config->encoder.layers;
  const int heads = read.Size(read.Key("num_attention_heads", "num_heads"), defaults.heads, kMaxWidth);
  const int head_dim = read.Size(read.Key("head_dim", "d_kv"), 64, kMaxWidth / heads);
  const int ffn = read.Size("d_ff", defaults.d_ff, kMaxWidth);
  for (StackConfig* stack : {&config->encoder, &config->decoder}) {
    stack->heads = heads;
    stack->head_dim = head_dim;
    stack->ffn = ffn;
    stack->score_scale = 1.0f;
    stack->max_positions = kMaxPositions;
  }
}

// "relu", or "gated-gelu": feed_forward_proj says both what the activation is and whether it is gated. What files also
// state under the two names that T5Config makes of it wins, as there.
void ReadFeedForward(const ConfigFile& file, std::string_view absent, ConfigReader& read, ModelConfig* config) {
  constexpr std::string_view kGated = "gated-";
  const std::string text = read.Text("feed_forward_proj", absent);
  const bool gated = text.starts_with(kGated);
  std::string_view name = std::string_view(text).substr(gated ? kGated.size() : 0);
  if (gated && name == "gelu") name = "gelu_new";
  const std::optional<Activation> activation = FindActivation(name);
  if (!activation) read.Refuse("feed_forward_proj", absl::StrCat("ACT or gated-ACT, ACT one of ", ActivationNames()));
  config->activation =
      file.Has("dense_act_fn") ? read.Activation("dense_act_fn", "") : activation.value_or(Activation::kNone);
  config->gated_feed_forward = file.Has("is_gated_act") ? read.Boolean("is_gated_act", gated) : gated;
}

void ReadRelativePositions(const ConfigFile& file, ConfigReader& read, ModelConfig* config) {
  RelativeBuckets& buckets = config->relative_buckets;
  buckets.buckets = read.Size("relative_attention_num_buckets", 32, kMaxBuckets);
  if (buckets.buckets < kMinBuckets) {
    read.Refuse("relative_attention_num_buckets",
                absl::StrCat("a whole number from ", kMinBuckets, " to ", kMaxBuckets));
  }
  buckets.max_distance = read.Size("relative_attention_max_distance", 128, kMaxPositions);
  if (buckets.max_distance <= buckets.buckets / 2) {
    read.Refuse("relative_attention_max_distance",
                absl::StrCat("more than half of relative_attention_num_buckets, ", buckets.buckets / 2));
  }
  // Relative positions end nowhere. n_positions, which transformers does not read, is what a model was trained with.
  config->positions = Positions::kNone;
  const absl::StatusOr<int64_t> trained = file.Integer("n_positions", kUsualTokens, 2, kMaxPositions);
  config->usual_tokens = trained.ok() ? static_cast<int>(*trained) : kUsualTokens;
  config->usual_tokens_reason = trained.ok() && file.Has("n_positions")
                                    ? "n_positions of config.json, as the model's positions have no end"
                                    : "the default, as the model's positions have no end";
}

absl::StatusOr<ModelConfig> Read(const ConfigFile& file, const Defaults& defaults, bool scales_head) {
  ConfigReader read(file);
  ModelConfig config;
  ReadShapes(file, defaults, read, &config);
  ReadFeedForward(file, defaults.feed_forward_proj, read, &config);
  ReadRelativePositions(file, read, &config);
  config.norm_placement = NormPlacement::kPre;
  config.norm_kind = NormKind::kRmsNorm;
  config.norm_epsilon = read.Number("layer_norm_epsilon", 1e-6, 1e-12, 1.0);
  // Whatever tie_word_embeddings says, the head is tied where the file holds none of its own; it says whether states
  // are scaled before it. transformers 5 writes that under a name of its own.
  const bool tied = read.Boolean("tie_word_embeddings", true);
  if (scales_head && read.Boolean("scale_decoder_outputs", tied)) {
    config.head_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.d_model)));
  }
  config.pad_token_id = read.TokenId("pad_token_id", 0, config.vocab_size);
  config.bos_token_id = read.TokenId("bos_token_id", -1, config.vocab_size);
  config.eos_token_id = read.TokenIds("eos_token_id", {1}, config.vocab_size);
  config.decoder_start_token_id =
      read.TokenId("decoder_start_token_id", defaults.decoder_start_token_id, config.vocab_size);
  read.MustBe("is_encoder_decoder", true);
  if (!read.status().ok()) return read.status();
  return config;
}

}  // namespace

absl::StatusOr<ModelConfig> ReadT5Config(const ConfigFile& file) {
  return Read(file,
              {.vocab_size = 32128,
               .d_ff = 2048,
               .layers = 6,
               .heads = 8,
               .feed_forward_proj = "relu",
               .decoder_start_token_id = -1},
              /*scales_head=*/true);
}

absl::StatusOr<ModelConfig> ReadMt5Config(const ConfigFile& file) {
  return Read(file,
              {.vocab_size = 250112,
               .d_ff = 1024,
               .layers = 8,
               .heads = 6,
               .feed_forward_proj = "gated-gelu",
               .decoder_start_token_id = 0},
              /*scales_head=*/false);
}

}  // namespace elserve
