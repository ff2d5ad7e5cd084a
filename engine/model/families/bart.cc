#include "engine/model/families/bart.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "engine/model/families/activation.h"
#include "engine/model/families/config_reader.h"

namespace elserve {

namespace {

constexpr AttentionNames kSelfAttention = {.q = "self_attn.q_proj",
                                           .k = "self_attn.k_proj",
                                           .v = "self_attn.v_proj",
                                           .o = "self_attn.out_proj",
                                           .norm = "self_attn_layer_norm"};
constexpr FeedForwardNames kFeedForward = {.fc1 = "fc1", .gate = {}, .fc2 = "fc2", .norm = "final_layer_norm"};

}  // namespace

const TensorNames kBartNames = {
    .prefix = "model.",
    .shared_tokens = "shared",
    .encoder = {.embedding = {.tokens = "encoder.embed_tokens",
                              .positions = "encoder.embed_positions",
                              .norm = "encoder.layernorm_embedding"},
                .layers = "encoder.layers",
                .self_attention = kSelfAttention,
                .cross_attention = {},
                .feed_forward = kFeedForward,
                .final_norm = {}},
    .decoder = {.embedding = {.tokens = "decoder.embed_tokens",
                              .positions = "decoder.embed_positions",
                              .norm = "decoder.layernorm_embedding"},
                .layers = "decoder.layers",
                .self_attention = kSelfAttention,
                .cross_attention = {.q = "encoder_attn.q_proj",
                                    .k = "encoder_attn.k_proj",
                                    .v = "encoder_attn.v_proj",
                                    .o = "encoder_attn.out_proj",
                                    .norm = "encoder_attn_layer_norm"},
                .feed_forward = kFeedForward,
                .final_norm = {}},
    .head = "lm_head",
    .logits_bias = "final_logits_bias",
};

absl::StatusOr<ModelConfig> ReadBartConfig(const ConfigFile& file) {
  ConfigReader read(file);
  ModelConfig config;
  config.vocab_size = read.Size("vocab_size", 50265, kMaxVocabulary);
  // The aliases win over the names that they stand for (BartConfig.attribute_map).
  config.d_model = read.Size(file.Has("hidden_size") ? "hidden_size" : "d_model", 1024, kMaxWidth);
  config.encoder.layers =
      read.Size(file.Has("num_hidden_layers") ? "num_hidden_layers" : "encoder_layers", 12, kMaxLayers);
  config.encoder.heads = read.Heads(file.Has("num_attention_heads") ? "num_attention_heads" : "encoder_attention_heads",
                                    16, config.d_model);
  config.encoder.ffn = read.Size("encoder_ffn_dim", 4096, kMaxWidth);
  config.decoder.layers = read.Size("decoder_layers", 12, kMaxLayers);
  config.decoder.heads = read.Heads("decoder_attention_heads", 16, config.d_model);
  config.decoder.ffn = read.Size("decoder_ffn_dim", 4096, kMaxWidth);
  for (StackConfig* stack : {&config.encoder, &config.decoder}) {
    stack->head_dim = config.d_model / stack->heads;
    stack->score_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(stack->head_dim)));
  }
  config.activation = read.Activation("activation_function", "gelu");
  config.norm_kind = NormKind::kLayerNorm;
  config.norm_epsilon = 1e-5f;  // torch.nn.LayerNorm's
  config.embedding_scale = read.Boolean("scale_embedding", false)
                               ? static_cast<float>(std::sqrt(static_cast<double>(config.d_model)))
                               : 1.0f;
  config.positions = Positions::kLearned;
  config.encoder.max_positions = config.decoder.max_positions =
      read.Size("max_position_embeddings", 1024, kMaxPositions);
  config.position_offset = 2;  // BartLearnedPositionalEmbedding
  config.tied_head = read.Boolean("tie_word_embeddings", true);
  config.pad_token_id = read.TokenId("pad_token_id", 1, config.vocab_size);
  config.bos_token_id = read.TokenId("bos_token_id", 0, config.vocab_size);
  config.eos_token_id = read.TokenIds("eos_token_id", {2}, config.vocab_size);
  config.decoder_start_token_id = read.TokenId("decoder_start_token_id", 2, config.vocab_size);
  // Relatives of BART once had this model_type with these keys. BartForConditionalGeneration does not read them and
  // would compute something else than such a model was trained for.
  read.MustBe("is_encoder_decoder", true);
  read.MustBe("normalize_before", false);
  read.MustBe("add_final_layer_norm", false);
  read.MustBe("normalize_embedding", true);
  read.MustBe("static_position_embeddings", false);
  if (!read.status().ok()) return read.status();
  return config;
}

}  // namespace elserve
