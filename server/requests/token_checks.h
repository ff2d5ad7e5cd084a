// Checks of texts and token ids, wherever in a request they stand. INVALID_ARGUMENT names the field.
#ifndef ELSERVE_SERVER_REQUESTS_TOKEN_CHECKS_H_
#define ELSERVE_SERVER_REQUESTS_TOKEN_CHECKS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/requests/served_model.h"

namespace elserve {

// Valid UTF-8 and not empty.
absl::Status CheckText(std::string_view text, const std::string& field);
// Each one within the model's vocabulary.
absl::Status CheckIds(std::span<const int32_t> ids, const std::string& field, const ServedModel& model);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_TOKEN_CHECKS_H_
