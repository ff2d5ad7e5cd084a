// A family is one file of names and values: which keys of config.json mean what, and how its tensors are called. They
// stand in one table (family.cc) under the model_type of config.json.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_FAMILY_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_FAMILY_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"

namespace elserve {

// Reads config.json by its model_type's family. Errors name the file, the key, its value and what was expected; an
// unknown model_type's error lists the supported ones. Both sides' max_tokens are left open.
absl::StatusOr<ModelConfig> ReadModelConfig(const Checkpoint& checkpoint);

// Finds every tensor that the family needs; `config` is ReadModelConfig's, with max_tokens set. `checkpoint` must
// outlive the weights, which are views into it. Errors name the file, the tensor, what it is and what was expected.
// Tensors that the family does not know are left alone, as transformers does.
absl::StatusOr<ModelWeights> FindModelWeights(const Checkpoint& checkpoint, const ModelConfig& config);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_FAMILY_H_
