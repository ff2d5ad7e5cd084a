// Makes the jobs of one request: sources as its model reads them, and its parameters as the engine takes them.
#ifndef ELSERVE_SERVER_REQUESTS_JOB_MAKER_H_
#define ELSERVE_SERVER_REQUESTS_JOB_MAKER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/requests/call_plan.h"
#include "server/requests/generation_request.h"
#include "server/requests/served_model.h"
#include "server/requests/source.h"

namespace elserve {

// At most so many alternatives (top_logprobs) in the answer to one request.
inline constexpr int64_t kMaxAlternatives = 1 << 20;

class JobMaker {
 public:
  // Checks and merges everything that a request has but its input, over the task's defaults; kScore has too little for
  // it. No text is tokenized but the answer's prefix.
  static absl::StatusOr<JobMaker> Create(std::shared_ptr<const ServedModel> model, const GenerationRequest& request,
                                         ServedTask task);

  // Of a prompt; `field` is what the client calls the text. `suffix`: the prompt ends with the task's, which truncation
  // leaves.
  absl::StatusOr<PlannedJob> OfText(std::string_view prompt, const std::string& field, bool suffix = false);
  // The same of at most so many tokens; nullopt: it has more.
  absl::StatusOr<std::optional<PlannedJob>> OfTextIfItFits(std::string_view prompt, const std::string& field,
                                                           size_t most_tokens);
  // Of what a Generate has.
  absl::StatusOr<PlannedJob> OfInput(const GenerationRequest& request);

  // Whether jobs come with the bytes of their tokens (PlannedJob::spans): slower.
  void WantSpans(bool wanted) { rules_.spans = wanted; }

  // All hypotheses of all jobs are kept until the last one has ended.
  absl::Status CheckAlternatives(std::span<const PlannedJob> jobs) const;

  // Of what is joined or split: one hypothesis a job, with nothing of the request's at its beginning. `who` allows no
  // more.
  absl::Status CheckOneText(const GenerationRequest& request, std::string_view who) const;

  // Of a decoder-only model: windows leave room for answers of a length that is known.
  absl::Status CheckWindows() const;

  const ServedModel& model() const { return *model_; }
  const SourceRules& source_rules() const { return rules_; }
  // Without the start token; of a decoder-only model none.
  const std::vector<int32_t>& answer_prefix() const { return answer_prefix_; }
  // Of a decoder-only model they depend on the prompt: those of the first job that was made.
  const v1::DecodingParameters& effective() const { return *effective_; }

 private:
  JobMaker() = default;

  absl::StatusOr<v1::DecodingParameters> Merge(const GenerationRequest& request, v1::DecodingParameters defaults) const;
  absl::Status TakeAnswerPrefix(const GenerationRequest& request);
  void LimitPrompt();
  absl::StatusOr<DecodingSpec> Resolve(std::span<const int32_t> prefix);
  absl::StatusOr<PlannedJob> OfSource(EncodedSource source);

  std::shared_ptr<const ServedModel> model_;
  SourceRules rules_;
  v1::DecodingParameters merged_;
  int top_logprobs_ = 0;
  bool stream_ = false;
  DecodingSpec decoding_;  // of a model with an encoder: of all jobs
  std::vector<int32_t> answer_prefix_;
  std::optional<v1::DecodingParameters> effective_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_JOB_MAKER_H_
