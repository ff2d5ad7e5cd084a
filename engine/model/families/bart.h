// BART: transformers' BartForConditionalGeneration.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_BART_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_BART_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/config_file.h"
#include "engine/model/families/tensor_names.h"
#include "engine/model/model_config.h"

namespace elserve {

// Keys that are not there have BartConfig's defaults.
absl::StatusOr<ModelConfig> ReadBartConfig(const ConfigFile& file);

extern const TensorNames kBartNames;

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_BART_H_
