// What BART and the families that came from it share: mBART, Pegasus and Marian have its keys of config.json and its
// names of tensors, with other defaults, and leave out some modules.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_BART_KEYS_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_BART_KEYS_H_

#include <cstdint>
#include <string_view>

#include "engine/model/families/config_reader.h"
#include "engine/model/families/tensor_names.h"
#include "engine/model/model_config.h"

namespace elserve {

// Defaults that differ between their configurations in transformers. -1: null.
struct BartDefaults {
  int vocab_size;
  int32_t pad_token_id, bos_token_id, eos_token_id, decoder_start_token_id;
};

// Shapes, activation, scale, tying and ids. Positions, norms and what a family refuses are its own.
void ReadBartKeys(const BartDefaults& defaults, ConfigReader& read, ModelConfig* config);

// Which modules a family has beside the layers. The names are transformers'.
struct BartModules {
  bool embedding_norm;  // "layernorm_embedding"
  bool final_norm;      // "layer_norm"
};
constexpr TensorNames BartNames(BartModules modules) {
  constexpr AttentionNames kSelfAttention = {.q = "self_attn.q_proj",
                                             .k = "self_attn.k_proj",
                                             .v = "self_attn.v_proj",
                                             .o = "self_attn.out_proj",
                                             .norm = "self_attn_layer_norm",
                                             .features = "self_attn.features"};
  constexpr AttentionNames kCrossAttention = {.q = "encoder_attn.q_proj",
                                              .k = "encoder_attn.k_proj",
                                              .v = "encoder_attn.v_proj",
                                              .o = "encoder_attn.out_proj",
                                              .norm = "encoder_attn_layer_norm"};
  constexpr FeedForwardNames kFeedForward = {
      .fc1 = "fc1", .gate = {}, .up = {}, .fc2 = "fc2", .norm = "final_layer_norm"};
  const auto name = [](bool there, std::string_view module) { return there ? module : std::string_view(); };
  return {
      .prefix = "model.",
      .shared_tokens = "shared",
      .encoder = {.embedding = {.tokens = "encoder.embed_tokens",
                                .positions = "encoder.embed_positions",
                                .norm = name(modules.embedding_norm, "encoder.layernorm_embedding")},
                  .layers = "encoder.layers",
                  .self_attention = kSelfAttention,
                  .cross_attention = {},
                  .feed_forward = kFeedForward,
                  .final_norm = name(modules.final_norm, "encoder.layer_norm"),
                  .position_bias = {}},
      .decoder = {.embedding = {.tokens = "decoder.embed_tokens",
                                .positions = "decoder.embed_positions",
                                .norm = name(modules.embedding_norm, "decoder.layernorm_embedding")},
                  .layers = "decoder.layers",
                  .self_attention = kSelfAttention,
                  .cross_attention = kCrossAttention,
                  .feed_forward = kFeedForward,
                  .final_norm = name(modules.final_norm, "decoder.layer_norm"),
                  .position_bias = {}},
      .head = "lm_head",
      .logits_bias = "final_logits_bias",
  };
}

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_BART_KEYS_H_
