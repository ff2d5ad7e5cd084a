// T5 (v1.0, v1.1, FLAN) and mT5: transformers' T5ForConditionalGeneration and MT5ForConditionalGeneration. RMS norms
// before sublayers, no biases in products, scores without a scale, relative positions.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_T5_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_T5_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/config_file.h"
#include "engine/model/families/tensor_names.h"
#include "engine/model/model_config.h"

namespace elserve {

// Keys that are not there have T5Config's and MT5Config's defaults.
absl::StatusOr<ModelConfig> ReadT5Config(const ConfigFile& file);
absl::StatusOr<ModelConfig> ReadMt5Config(const ConfigFile& file);

extern const TensorNames kT5Names;

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_T5_H_
