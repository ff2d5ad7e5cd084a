#include "engine/model/families/family.h"

#include <array>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/families/bart.h"
#include "engine/model/families/config_reader.h"
#include "engine/model/families/gpt2.h"
#include "engine/model/families/marian.h"
#include "engine/model/families/mbart.h"
#include "engine/model/families/pegasus.h"
#include "engine/model/families/t5.h"
#include "engine/model/families/tensor_names.h"

namespace elserve {
namespace {

struct Family {
  std::string_view model_type;  // in config.json
  absl::StatusOr<ModelConfig> (*read_config)(const ConfigFile& file);
  const TensorNames* names;
  bool favor = false;  // whether attention_type: favor is defined for it
};

constexpr std::array kFamilies = {
    Family{"bart", ReadBartConfig, &kBartNames, /*favor=*/true},
    Family{"gpt2", ReadGpt2Config, &kGpt2Names},
    Family{"marian", ReadMarianConfig, &kMarianNames},
    Family{"mbart", ReadMBartConfig, &kMBartNames},
    Family{"mt5", ReadMt5Config, &kT5Names},
    Family{"pegasus", ReadPegasusConfig, &kPegasusNames},
    Family{"t5", ReadT5Config, &kT5Names},
};

absl::StatusOr<const Family*> FindFamily(const ConfigFile& file) {
  const absl::StatusOr<std::string> model_type = file.String("model_type", std::nullopt);
  if (!model_type.ok()) return model_type.status();
  std::string supported;
  for (const Family& family : kFamilies) {
    if (family.model_type == *model_type) return &family;
    absl::StrAppend(&supported, supported.empty() ? "" : ", ", std::string(family.model_type));
  }
  return file.Error("model_type", absl::StrCat("one of the supported families: ", supported));
}

// What the encoder's self-attention is. FAVOR+ approximates a softmax of q.k alone: there is no place in it for a bias
// of positions (T5), nor a causal form here (GPT-2); of the rest only those have it whose checkpoints
// models/debian-synopsis/training can make.
absl::Status ReadAttentionType(const Family& family, const ConfigFile& file, ModelConfig* config) {
  constexpr std::string_view kKey = "attention_type";
  if (!file.Has(kKey)) return absl::OkStatus();
  ConfigReader read(file);
  const std::string type = read.Text(kKey, "softmax");
  if (type == "favor" && !family.favor) {
    read.Refuse(kKey, absl::StrCat("\"softmax\" where model_type is \"", std::string(family.model_type),
                                   "\"; \"favor\" is for \"bart\" alone"));
  } else if (type == "favor") {
    if (!file.Has("favor_features")) {
      read.Refuse("favor_features", absl::StrCat("a whole number from 1 to ", kMaxFeatures));
    }
    config->encoder.favor_features = read.Size("favor_features", 1, kMaxFeatures);
  } else if (type != "softmax") {
    read.Refuse(kKey, "\"softmax\" or \"favor\"");
  }
  return read.status();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadModelConfig(const Checkpoint& checkpoint) {
  const absl::StatusOr<const Family*> family = FindFamily(checkpoint.config());
  if (!family.ok()) return family.status();
  absl::StatusOr<ModelConfig> config = (*family)->read_config(checkpoint.config());
  if (!config.ok()) return config;
  if (absl::Status status = ReadAttentionType(**family, checkpoint.config(), &*config); !status.ok()) return status;
  config->model_type = (*family)->model_type;
  return config;
}

absl::StatusOr<ModelWeights> FindModelWeights(const Checkpoint& checkpoint, const ModelConfig& config) {
  const absl::StatusOr<const Family*> family = FindFamily(checkpoint.config());
  if (!family.ok()) return family.status();
  return FindWeights(checkpoint, config, *(*family)->names);
}

}  // namespace elserve
