// A request becomes a PreparedCall: the model found, parameters merged and checked, the prompt made and tokenized.
#ifndef ELSERVE_SERVER_REQUESTS_PREPARE_H_
#define ELSERVE_SERVER_REQUESTS_PREPARE_H_

#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call.h"
#include "server/requests/model_registry.h"

namespace elserve {

// At most this many answers in one GenerateQuestions request: each is a job of its own.
inline constexpr int kMaxAnswers = 256;
// At most this many targets in one Score request: each is a job of its own.
inline constexpr int kMaxTargets = 256;
// At most this many bytes of prompts in one request: each answer's prompt holds the whole context.
inline constexpr size_t kMaxPromptBytes = size_t{64} << 20;

// At most so many alternatives (top_logprobs) in the answer to one request.
inline constexpr int64_t kMaxAlternatives = 1 << 20;

// Each parameter is checked before any text is tokenized; how they go together, and with a prefix or a prompt, when its
// tokens are known. Errors are those that elserve.proto lists: INVALID_ARGUMENT
// names the field, its value and what is allowed. `stream`: the rpc is a stream, which has room for one hypothesis.
absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::SummarizeRequest& request, bool stream);
absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::GenerateRequest& request, bool stream);
absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::GenerateQuestionsRequest& request,
                                     bool stream);
absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::ScoreRequest& request, bool stream);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_PREPARE_H_
