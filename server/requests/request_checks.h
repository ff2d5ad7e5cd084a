// Checks of what any request may have. INVALID_ARGUMENT names the field, its value and what is allowed.
#ifndef ELSERVE_SERVER_REQUESTS_REQUEST_CHECKS_H_
#define ELSERVE_SERVER_REQUESTS_REQUEST_CHECKS_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/served_model.h"

namespace elserve {

// The request's own name, checked, or a new one where it has none.
absl::StatusOr<std::string> RequestId(const std::string& id);
// `may_chunk`: the task knows TRUNCATION_CHUNK.
absl::Status CheckTruncation(v1::Truncation truncation, bool may_chunk);
absl::Status CheckOnDeadline(v1::OnDeadline on_deadline);
// Valid UTF-8 and not empty.
absl::Status CheckText(std::string_view text, const std::string& field);
// Each one within the model's vocabulary.
absl::Status CheckIds(std::span<const int32_t> ids, const std::string& field, const ServedModel& model);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_REQUEST_CHECKS_H_
