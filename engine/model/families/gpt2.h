// GPT-2: transformers' GPT2LMHeadModel. A decoder alone, without cross-attention: its source is the prompt that its
// answer continues. Layer norms before sublayers, learned positions.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_GPT2_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_GPT2_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/config_file.h"
#include "engine/model/families/tensor_names.h"
#include "engine/model/model_config.h"

namespace elserve {

// Keys that are not there have GPT2Config's defaults.
absl::StatusOr<ModelConfig> ReadGpt2Config(const ConfigFile& file);

extern const TensorNames kGpt2Names;

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_GPT2_H_
