// The keys of transformers' GenerationConfig that are no decoding parameters here.
#ifndef ELSERVE_SERVER_PARAMETERS_OTHER_KEYS_H_
#define ELSERVE_SERVER_PARAMETERS_OTHER_KEYS_H_

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "absl/status/status.h"

namespace elserve {

// OK: the value cannot change tokens, or is neutral. INVALID_ARGUMENT: it would change them, and the parameter is not
// honoured. NOT_FOUND: GenerationConfig has no such key. `checkpoint`: the value is a checkpoint's, which says what its
// author did, and not what is wanted here.
absl::Status CheckOtherKey(std::string_view name, const nlohmann::json& value, bool checkpoint);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_OTHER_KEYS_H_
