#include "engine/model/families/bart_keys.h"

#include <cmath>

namespace elserve {

void ReadBartKeys(const BartDefaults& defaults, ConfigReader& read, ModelConfig* config) {
  config->vocab_size = read.Size("vocab_size", defaults.vocab_size, kMaxVocabulary);
  config->d_model = read.Size(read.Key("hidden_size", "d_model"), 1024, kMaxWidth);
  config->encoder.layers = read.Size(read.Key("num_hidden_layers", "encoder_layers"), 12, kMaxLayers);
  config->encoder.heads = read.Heads(read.Key("num_attention_heads", "encoder_attention_heads"), 16, config->d_model);
  config->encoder.ffn = read.Size("encoder_ffn_dim", 4096, kMaxWidth);
  config->decoder.layers = read.Size("decoder_layers", 12, kMaxLayers);
  config->decoder.heads = read.Heads("decoder_attention_heads", 16, config->d_model);
  config->decoder.ffn = read.Size("decoder_ffn_dim", 4096, kMaxWidth);
  for (StackConfig* stack : {&config->encoder, &config->decoder}) {
    stack->head_dim = config->d_model / stack->heads;
    stack->score_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(stack->head_dim)));
  }
  config->activation = read.Activation("activation_function", "gelu");
  config->norm_kind = NormKind::kLayerNorm;
  config->norm_epsilon = 1e-5f;  // torch.nn.LayerNorm's
  config->embedding_scale = read.Boolean("scale_embedding", false)
                                ? static_cast<float>(std::sqrt(static_cast<double>(config->d_model)))
                                : 1.0f;
  config->encoder.max_positions = config->decoder.max_positions =
      read.Size("max_position_embeddings", 1024, kMaxPositions);
  config->tied_head = read.Boolean("tie_word_embeddings", true);
  config->pad_token_id = read.TokenId("pad_token_id", defaults.pad_token_id, config->vocab_size);
  config->bos_token_id = read.TokenId("bos_token_id", defaults.bos_token_id, config->vocab_size);
  config->eos_token_id = read.TokenIds("eos_token_id", {defaults.eos_token_id}, config->vocab_size);
  config->decoder_start_token_id =
      read.TokenId("decoder_start_token_id", defaults.decoder_start_token_id, config->vocab_size);
  read.MustBe("is_encoder_decoder", true);
}

}  // namespace elserve
