#include "engine/model/families/pegasus.h"

#include "engine/model/families/bart_keys.h"
#include "engine/model/families/config_reader.h"

namespace elserve {

constinit const TensorNames kPegasusNames = BartNames({.embedding_norm = false, .final_norm = true});

absl::StatusOr<ModelConfig> ReadPegasusConfig(const ConfigFile& file) {
  ConfigReader read(file);
  ModelConfig config;
  ReadBartKeys(
      {.vocab_size = 50265, .pad_token_id = 0, .bos_token_id = -1, .eos_token_id = 1, .decoder_start_token_id = 0},
      read, &config);
  config.norm_placement = NormPlacement::kPre;
  config.positions = Positions::kSinusoids;
  // What checkpoints of the hub state and PegasusForConditionalGeneration does without reading it.
  read.MustBe("normalize_before", true);
  read.MustBe("add_final_layer_norm", true);
  read.MustBe("normalize_embedding", false);
  read.MustBe("static_position_embeddings", true);
  if (!read.status().ok()) return read.status();
  return config;
}

}  // namespace elserve
