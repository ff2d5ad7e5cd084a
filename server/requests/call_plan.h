// What a call does: which jobs it has, and what their results come to.
#ifndef ELSERVE_SERVER_REQUESTS_CALL_PLAN_H_
#define ELSERVE_SERVER_REQUESTS_CALL_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/decoding.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call_events.h"
#include "server/text/token_model.h"

namespace elserve {

// A job that is to be submitted.
struct PlannedJob {
  std::vector<int32_t> source;  // token ids, special tokens included; of a decoder-only model none
  DecodingSpec decoding;
  int source_tokens = 0;   // for Usage: of the source, or of a decoder-only model's prompt
  bool truncated = false;  // for Usage
  // Of each source token its bytes of the prompt, {0, 0} if it has none there; where JobMaker::WantSpans asked for
  // them.
  std::vector<TextSpan> spans = {};
};

// What one job came to, or several together.
struct CallOutput {
  std::vector<v1::Hypothesis> hypotheses;  // best first
  std::optional<v1::Usage> usage;          // of a job: set
};

// The answer that is made of all results.
struct CallAnswer {
  std::vector<CallOutput> outputs;   // at least one, but for questions
  std::vector<v1::Answer> answers;   // of GenerateQuestions: by what each output is answered; else none
  std::vector<v1::Part> parts;       // what the outputs were made of, where they are no job's
  v1::DecodingParameters effective;  // the parameters used
  std::optional<v1::Salience> salience;
  std::string model;
  std::string request_id;
};

// Start comes first; of each job OnText, of streams alone, and then OnResult or OnExpired, unless the call fails; Fold
// when no job is left. Jobs are numbered from 0 in the order in which they were given. Called by one thread at a time.
class CallPlan {
 public:
  virtual ~CallPlan() = default;
  // The first jobs, at least one. Errors are those of a request.
  virtual absl::StatusOr<std::vector<PlannedJob>> Start() = 0;
  // More of what a job will answer, which nothing takes back; `text` is whole characters. What the client is told of
  // it goes to `events`.
  virtual void OnText(size_t job, std::string text, std::span<const int32_t> tokens, CallEvents* events) = 0;
  // Of a job that ended well. Returns the jobs that follow from it. `events`: null for a call that is no stream.
  virtual absl::StatusOr<std::vector<PlannedJob>> OnResult(size_t job, CallOutput output, CallEvents* events) = 0;
  // Of a job that had no token when the call's time was over (max_time, ON_DEADLINE_BEST_SO_FAR), which `late` says.
  // OK: the plan answers without it.
  virtual absl::Status OnExpired(size_t, absl::Status late, CallEvents*) { return late; }
  // `outputs`, `answers` and `parts`; the rest is the call's.
  virtual CallAnswer Fold() = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CALL_PLAN_H_
