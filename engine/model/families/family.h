// A family is one file of names and values: which keys of config.json mean what, and how its tensors are called. They
// stand in one table (family.cc) under the model_type of config.json.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_FAMILY_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_FAMILY_H_

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"

namespace elserve {

struct HostModel {
  ModelConfig config;
  ModelWeights weights;  // views into the checkpoint
};

// Reads config.json by its model_type's family and finds every tensor that the family needs. `checkpoint` must outlive
// the weights. Errors name the file, the key or the tensor, what it is and what was expected; an unknown model_type's
// error lists the supported ones. Tensors that the family does not know are left alone, as transformers does.
absl::StatusOr<HostModel> LoadHostModel(const Checkpoint& checkpoint);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_FAMILY_H_
