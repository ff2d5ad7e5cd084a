// Answers as the API's messages.
#ifndef ELSERVE_SERVER_RPC_ANSWERS_H_
#define ELSERVE_SERVER_RPC_ANSWERS_H_

#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call.h"

namespace elserve {

// Of one output.
void FillResponse(CallAnswer answer, v1::GenerateResponse* response);
// An output for each question.
void FillResponse(CallAnswer answer, v1::GenerateQuestionsResponse* response);
void FillResponse(CallAnswer answer, v1::ScoreResponse* response);

void FillChunk(CallEvent event, v1::GenerateChunk* chunk);
void FillChunk(CallEvent event, v1::GenerateQuestionsChunk* chunk);

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_ANSWERS_H_
