// Pegasus: transformers' PegasusForConditionalGeneration. BART with norms before sublayers and sinusoids, without norms
// of embeddings.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_PEGASUS_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_PEGASUS_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/config_file.h"
#include "engine/model/families/tensor_names.h"
#include "engine/model/model_config.h"

namespace elserve {

// Keys that are not there have PegasusConfig's defaults.
absl::StatusOr<ModelConfig> ReadPegasusConfig(const ConfigFile& file);

extern const TensorNames kPegasusNames;

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_PEGASUS_H_
