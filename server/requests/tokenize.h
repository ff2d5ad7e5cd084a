// Text to tokens and back for those who ask for nothing else.
#ifndef ELSERVE_SERVER_REQUESTS_TOKENIZE_H_
#define ELSERVE_SERVER_REQUESTS_TOKENIZE_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/model_registry.h"

namespace elserve {

// Each byte may be a token, of which the answer tells three numbers.
inline constexpr size_t kMaxTokenizeBytes = 1 << 20;

// Errors name the field, the value and what is allowed.
absl::StatusOr<v1::TokenizeResponse> Tokenize(const ModelRegistry& models, const v1::TokenizeRequest& request);
absl::StatusOr<v1::DetokenizeResponse> Detokenize(const ModelRegistry& models, const v1::DetokenizeRequest& request);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_TOKENIZE_H_
