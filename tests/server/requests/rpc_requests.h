// The API's requests, taken in as rpc/ does it.
#ifndef ELSERVE_TESTS_SERVER_REQUESTS_RPC_REQUESTS_H_
#define ELSERVE_TESTS_SERVER_REQUESTS_RPC_REQUESTS_H_

#include "server/requests/prepare.h"
#include "server/rpc/requests.h"

namespace elserve {

template <typename Request>
absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const Request& request, bool stream) {
  return Prepare(models, ToGenerationRequest(request, {.rpc = stream ? Rpc::kStreamGenerate : Rpc::kGenerate,
                                                       .arrived = {},
                                                       .deadline = std::nullopt}));
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_SERVER_REQUESTS_RPC_REQUESTS_H_
