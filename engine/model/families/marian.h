// Marian, the OPUS translation models: transformers' MarianMTModel. BART with sinusoids, without norms of embeddings.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_MARIAN_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_MARIAN_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/config_file.h"
#include "engine/model/families/tensor_names.h"
#include "engine/model/model_config.h"

namespace elserve {

// Keys that are not there have MarianConfig's defaults.
absl::StatusOr<ModelConfig> ReadMarianConfig(const ConfigFile& file);

extern const TensorNames kMarianNames;

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_MARIAN_H_
