// mBART and mBART-50: transformers' MBartForConditionalGeneration. BART with norms before sublayers and at both ends.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_MBART_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_MBART_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/config_file.h"
#include "engine/model/families/tensor_names.h"
#include "engine/model/model_config.h"

namespace elserve {

// Keys that are not there have MBartConfig's defaults.
absl::StatusOr<ModelConfig> ReadMBartConfig(const ConfigFile& file);

extern const TensorNames kMBartNames;

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_MBART_H_
