#include "engine/model/families/marian.h"

#include "absl/strings/str_cat.h"
#include "engine/model/families/bart_keys.h"
#include "engine/model/families/config_reader.h"

namespace elserve {

constinit const TensorNames kMarianNames = BartNames({.embedding_norm = false, .final_norm = false});

absl::StatusOr<ModelConfig> ReadMarianConfig(const ConfigFile& file) {
  ConfigReader read(file);
  ModelConfig config;
  ReadBartKeys({.vocab_size = 58101,
                .pad_token_id = 58100,
                .bos_token_id = -1,
                .eos_token_id = 0,
                .decoder_start_token_id = 58100},
               read, &config);
  config.norm_placement = NormPlacement::kPost;
  config.positions = Positions::kSinusoids;
  // Both sides read and write one vocabulary here; MarianMTModel can also have one for each.
  read.MustBe("share_encoder_decoder_embeddings", true);
  if (file.Has("decoder_vocab_size") &&
      read.Size("decoder_vocab_size", config.vocab_size, kMaxVocabulary) != config.vocab_size) {
    read.Refuse("decoder_vocab_size", absl::StrCat("vocab_size, ", config.vocab_size));
  }
  // What checkpoints of the hub state and MarianMTModel does without reading it.
  read.MustBe("normalize_before", false);
  read.MustBe("add_final_layer_norm", false);
  read.MustBe("normalize_embedding", false);
  read.MustBe("static_position_embeddings", true);
  if (!read.status().ok()) return read.status();
  return config;
}

}  // namespace elserve
