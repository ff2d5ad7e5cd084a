// A request becomes a PreparedCall: the model found, parameters merged and checked, prompts made and tokenized.
#ifndef ELSERVE_SERVER_REQUESTS_PREPARE_H_
#define ELSERVE_SERVER_REQUESTS_PREPARE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call_plan.h"
#include "server/requests/generation_request.h"
#include "server/requests/model_registry.h"
#include "server/requests/served_model.h"

namespace elserve {

// A request that was checked and tokenized; what is left is the engine's.
struct PreparedCall {
  std::shared_ptr<const ServedModel> model;
  std::string request_id;
  std::unique_ptr<CallPlan> plan;  // started
  std::vector<PlannedJob> jobs;    // its first
  // What all hypotheses begin with: what of DecodingSpec::prefix is the answer's. Empty for a decoder-only model.
  std::vector<int32_t> answer_prefix;
  v1::DecodingParameters effective;
  std::optional<v1::Salience> salience;  // where the request had salient_spans
  bool token_logprobs = false;
  bool best_so_far = false;  // on_deadline: answer shortly before the client's deadline with what there is
};

// Each parameter is checked before any text is tokenized; how they go together, and with a prefix or a prompt, when its
// tokens are known. Errors are those that elserve.proto lists: INVALID_ARGUMENT names the field, its value and what is
// allowed.
absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const GenerationRequest& request);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_PREPARE_H_
