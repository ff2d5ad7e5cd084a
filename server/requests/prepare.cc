#include "server/requests/prepare.h"

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/requests/chunked_summary.h"
#include "server/requests/chunks.h"
#include "server/requests/job_maker.h"
#include "server/requests/outputs_plan.h"
#include "server/requests/questions.h"
#include "server/requests/request_checks.h"
#include "server/requests/salience.h"
#include "server/requests/score.h"
#include "server/text/prompts.h"

namespace elserve {
namespace {

using Task = GenerationRequest::Task;

absl::Status NoTask(const ServedModel& model, std::string_view task) {
  return absl::InvalidArgumentError(absl::StrCat("model is \"", model.name(),
                                                 "\", which is not configured for the task ", std::string(task),
                                                 " (models[].tasks of the server's configuration)"));
}

// What the model does for requests of this kind.
absl::StatusOr<ServedTask> TaskOf(const ServedModel& model, Task task) {
  if (task == Task::kSummarize) {
    if (!model.summarize()) return NoTask(model, "summarize");
    return *model.summarize();
  }
  if (task == Task::kQuestions) {
    if (model.info().decoder_only) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model is \"", model.name(), "\", which is decoder-only; GenerateQuestions needs a model with an encoder"));
    }
    if (!model.questions()) return NoTask(model, "questions");
    return *model.questions();
  }
  return ServedTask{.prompt = {}, .defaults = model.defaults()};
}

absl::StatusOr<std::unique_ptr<CallPlan>> OneOutput(absl::StatusOr<PlannedJob> job) {
  if (!job.ok()) return job.status();
  std::vector<PlannedJob> jobs;
  jobs.push_back(*std::move(job));
  return std::make_unique<OutputsPlan>(std::move(jobs));
}

// The only job of a request, whose prompt has all of `text` from byte `at` on, or what truncation left of it.
absl::StatusOr<PlannedJob> Marked(absl::StatusOr<PlannedJob> job, std::optional<SalientSpans> salience,
                                  std::string_view text, size_t at) {
  if (!job.ok() || !salience) return job;
  salience->Mark({.begin = 0, .end = static_cast<uint32_t>(text.size())}, at, &*job);
  if (const absl::Status status = salience->CheckMarked(); !status.ok()) return status;
  return job;
}

absl::StatusOr<std::unique_ptr<CallPlan>> PlanSummary(std::shared_ptr<JobMaker> maker, const GenerationRequest& request,
                                                      std::optional<SalientSpans> salience) {
  const std::string& document = std::get<std::string>(request.input);
  if (const absl::Status status = CheckText(document, "document"); !status.ok()) return status;
  const absl::StatusOr<std::optional<ChunkRules>> rules = ChunkRulesOf(*maker, request, document);
  if (!rules.ok()) return rules.status();
  if (*rules) {
    if (const absl::Status status = maker->CheckOneText(request, "TRUNCATION_CHUNK"); !status.ok()) return status;
    return std::make_unique<ChunkedSummary>(std::move(maker), **rules, document, std::move(salience));
  }
  const TaskPrompt& prompt = maker->source_rules().prompt;
  return OneOutput(Marked(maker->OfText(SummaryPrompt(prompt, document), "document", /*suffix=*/!prompt.suffix.empty()),
                          std::move(salience), document, prompt.prefix.size()));
}

absl::StatusOr<std::unique_ptr<CallPlan>> PlanOf(const std::shared_ptr<JobMaker>& maker,
                                                 const GenerationRequest& request,
                                                 std::optional<SalientSpans> salience) {
  const auto* const text = std::get_if<std::string>(&request.input);
  if (request.task == Task::kGenerate) {
    return OneOutput(
        Marked(maker->OfInput(request), std::move(salience), text != nullptr ? std::string_view(*text) : "", 0));
  }
  if (text == nullptr) {
    return absl::InvalidArgumentError("input is token ids; tasks allow text alone: their prompts stand around it");
  }
  return request.task == Task::kSummarize ? PlanSummary(maker, request, std::move(salience))
                                          : PlanQuestions(maker, request);
}

// Fills what comes from parameters and input.
absl::Status PrepareGeneration(const GenerationRequest& request, PreparedCall* call) {
  absl::StatusOr<ServedTask> task = TaskOf(*call->model, request.task);
  if (!task.ok()) return task.status();
  absl::StatusOr<JobMaker> made = JobMaker::Create(call->model, request, *std::move(task));
  if (!made.ok()) return made.status();
  const auto maker = std::make_shared<JobMaker>(*std::move(made));
  absl::StatusOr<std::optional<SalientSpans>> salience = SalientSpans::Create(*call->model, request);
  if (!salience.ok()) return salience.status();
  maker->WantSpans(salience->has_value());
  if (*salience) call->salience = (*salience)->Describe();
  absl::StatusOr<std::unique_ptr<CallPlan>> plan = PlanOf(maker, request, *std::move(salience));
  if (!plan.ok()) return plan.status();
  call->plan = *std::move(plan);
  absl::StatusOr<std::vector<PlannedJob>> jobs = call->plan->Start();
  if (!jobs.ok()) return jobs.status();
  call->jobs = *std::move(jobs);
  call->answer_prefix = maker->answer_prefix();
  call->effective = maker->effective();
  return maker->CheckAlternatives(call->jobs);
}

absl::Status PrepareScore(const GenerationRequest& request, PreparedCall* call) {
  absl::StatusOr<std::vector<PlannedJob>> jobs = ScoreJobs(*call->model, request);
  if (!jobs.ok()) return jobs.status();
  call->plan = std::make_unique<OutputsPlan>(*std::move(jobs));
  call->jobs = *call->plan->Start();
  call->token_logprobs = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const GenerationRequest& request) {
  absl::StatusOr<std::string> request_id = RequestId(request.request_id);
  if (!request_id.ok()) return request_id.status();
  absl::StatusOr<std::shared_ptr<const ServedModel>> model = models.Find(request.model);
  if (!model.ok()) return model.status();
  PreparedCall call;
  call.model = *std::move(model);
  call.request_id = *std::move(request_id);
  call.token_logprobs = request.token_logprobs;
  call.best_so_far = request.on_deadline == v1::ON_DEADLINE_BEST_SO_FAR;
  const absl::Status status =
      request.task == Task::kScore ? PrepareScore(request, &call) : PrepareGeneration(request, &call);
  if (!status.ok()) return status;
  return call;
}

}  // namespace elserve
