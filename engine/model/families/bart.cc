#include "engine/model/families/bart.h"

#include "engine/model/families/bart_keys.h"
#include "engine/model/families/config_reader.h"

namespace elserve {

constinit const TensorNames kBartNames = BartNames({.embedding_norm = true, .final_norm = false});

absl::StatusOr<ModelConfig> ReadBartConfig(const ConfigFile& file) {
  ConfigReader read(file);
  ModelConfig config;
  ReadBartKeys(
      {.vocab_size = 50265, .pad_token_id = 1, .bos_token_id = 0, .eos_token_id = 2, .decoder_start_token_id = 2}, read,
      &config);
  config.norm_placement = NormPlacement::kPost;
  config.positions = Positions::kLearned;
  config.position_offset = 2;  // BartLearnedPositionalEmbedding
  // Relatives of BART once had this model_type with these keys. BartForConditionalGeneration does not read them and
  // would compute something else than such a model was trained for.
  read.MustBe("normalize_before", false);
  read.MustBe("add_final_layer_norm", false);
  read.MustBe("normalize_embedding", true);
  read.MustBe("static_position_embeddings", false);
  if (!read.status().ok()) return read.status();
  return config;
}

}  // namespace elserve
