// The API's requests as the rooms behind rpc/ know them.
#ifndef ELSERVE_SERVER_RPC_REQUESTS_H_
#define ELSERVE_SERVER_RPC_REQUESTS_H_

#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/generation_request.h"

namespace elserve {

// Texts and ids are moved out of the message. Nothing is checked.
GenerationRequest ToGenerationRequest(v1::SummarizeRequest request, const CallOrigin& origin);
GenerationRequest ToGenerationRequest(v1::GenerateRequest request, const CallOrigin& origin);
GenerationRequest ToGenerationRequest(v1::GenerateQuestionsRequest request, const CallOrigin& origin);
GenerationRequest ToGenerationRequest(v1::ScoreRequest request, const CallOrigin& origin);

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_REQUESTS_H_
