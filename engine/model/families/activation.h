// The names of activation functions in config.json.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_ACTIVATION_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_ACTIVATION_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/model/checkpoint/config_file.h"

namespace elserve {

// The activation that transformers' ACT2FN has under this name; nullopt: none that is supported.
std::optional<Activation> FindActivation(std::string_view name);
// The supported names: "gelu, relu, ...".
std::string ActivationNames();

// The activation that `key` names, as transformers' ACT2FN has it; `absent` where the key is not there. An error lists
// the supported names.
absl::StatusOr<Activation> ReadActivation(const ConfigFile& config, std::string_view key, std::string_view absent);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_ACTIVATION_H_
