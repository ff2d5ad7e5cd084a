#include "engine/model/families/mbart.h"

#include "engine/model/families/bart_keys.h"
#include "engine/model/families/config_reader.h"

namespace elserve {

constinit const TensorNames kMBartNames = BartNames({.embedding_norm = true, .final_norm = true});

absl::StatusOr<ModelConfig> ReadMBartConfig(const ConfigFile& file) {
  ConfigReader read(file);
  ModelConfig config;
  ReadBartKeys(
      {.vocab_size = 50265, .pad_token_id = 1, .bos_token_id = 0, .eos_token_id = 2, .decoder_start_token_id = -1},
      read, &config);
  config.norm_placement = NormPlacement::kPre;
  config.positions = Positions::kLearned;
  config.position_offset = 2;  // MBartLearnedPositionalEmbedding
  // What checkpoints of the hub state and MBartForConditionalGeneration does without reading it.
  read.MustBe("normalize_before", true);
  read.MustBe("add_final_layer_norm", true);
  read.MustBe("normalize_embedding", true);
  read.MustBe("static_position_embeddings", false);
  if (!read.status().ok()) return read.status();
  return config;
}

}  // namespace elserve
