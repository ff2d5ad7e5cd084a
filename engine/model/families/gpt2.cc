#include "engine/model/families/gpt2.h"

#include <cmath>
#include <string>
#include <string_view>

#include "engine/model/families/config_reader.h"

namespace elserve {

// Layers also have buffers, attn.bias and attn.masked_bias: the causal mask, which older versions stored.
constinit const TensorNames kGpt2Names = {
    .prefix = "transformer.",
    .shared_tokens = "wte",
    .encoder = {},
    .decoder = {.embedding = {.tokens = "wte", .positions = "wpe", .norm = {}},
                .layers = "h",
                .self_attention = {.q = {}, .k = {}, .v = {}, .o = "attn.c_proj", .norm = "ln_1", .qkv = "attn.c_attn"},
                .cross_attention = {},
                .feed_forward = {.fc1 = "mlp.c_fc", .gate = {}, .up = {}, .fc2 = "mlp.c_proj", .norm = "ln_2"},
                .final_norm = "ln_f",
                .position_bias = {}},
    .conv1d = true,
    .head = "lm_head",
    .logits_bias = {},
};

namespace {

// The other classes of this model_type have heads that are no language model's. GPT2Model has none: its tied head is
// the token embedding.
void CheckArchitectures(ConfigReader& read) {
  for (const std::string& name : read.Texts("architectures")) {
    if (name != "GPT2LMHeadModel" && name != "GPT2Model") read.Refuse("architectures", "GPT2LMHeadModel or GPT2Model");
  }
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGpt2Config(const ConfigFile& file) {
  ConfigReader read(file);
  ModelConfig config;
  config.vocab_size = read.Size("vocab_size", 50257, kMaxVocabulary);
  config.d_model = read.Size(read.Key("hidden_size", "n_embd"), 768, kMaxWidth);
  StackConfig& decoder = config.decoder;
  decoder.layers = read.Size(read.Key("num_hidden_layers", "n_layer"), 12, kMaxLayers);
  decoder.heads = read.Heads(read.Key("num_attention_heads", "n_head"), 12, config.d_model);
  decoder.head_dim = config.d_model / decoder.heads;
  decoder.ffn = file.Has("n_inner") ? read.Size("n_inner", 1, kMaxWidth) : 4 * config.d_model;
  decoder.score_scale = read.Boolean("scale_attn_weights", true)
                            ? static_cast<float>(1.0 / std::sqrt(static_cast<double>(decoder.head_dim)))
                            : 1.0f;
  decoder.max_positions = read.Size(read.Key("max_position_embeddings", "n_positions"), 1024, kMaxPositions);
  config.activation = read.Activation("activation_function", "gelu_new");
  config.norm_placement = NormPlacement::kPre;
  config.norm_kind = NormKind::kLayerNorm;
  config.norm_epsilon = read.Number("layer_norm_epsilon", 1e-5, 1e-12, 1.0);
  config.positions = Positions::kLearned;
  config.tied_head = read.Boolean("tie_word_embeddings", true);
  config.pad_token_id = read.TokenId("pad_token_id", -1, config.vocab_size);
  config.bos_token_id = read.TokenId("bos_token_id", 50256, config.vocab_size);
  config.eos_token_id = read.TokenIds("eos_token_id", {50256}, config.vocab_size);
  CheckArchitectures(read);
  // With it, the scores of each layer have a scale of their own.
  read.MustBe("scale_attn_by_inverse_layer_idx", false);
  // Another order of the same operations, in float32: scores are float32 here in every precision.
  read.Boolean("reorder_and_upcast_attn", false);
  read.MustBe("add_cross_attention", false);
  read.MustBe("is_encoder_decoder", false);
  if (!read.status().ok()) return read.status();
  return config;
}

}  // namespace elserve
