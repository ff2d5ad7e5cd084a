#include "server/requests/questions.h"

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/requests/outputs_plan.h"
#include "server/requests/request_checks.h"
#include "server/text/prompts.h"

namespace elserve {
namespace {

std::string_view Held(std::string_view context, Span span) {
  return context.substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.end - span.begin));
}

absl::StatusOr<Span> FindSpan(const GenerationRequest::AskedAnswer& answer, std::string_view context,
                              const std::string& field) {
  if (!answer.span) {
    if (!answer.text.empty()) return FindAnswer(context, answer.text, absl::StrCat(field, ".text"));
    return absl::InvalidArgumentError(absl::StrCat(field, " is empty; it needs text or span"));
  }
  const Span span = *answer.span;
  const absl::Status status = CheckSpan(context, span, absl::StrCat(field, ".span"));
  if (!status.ok()) return status;
  if (!answer.text.empty() && answer.text != Held(context, span)) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".text is not what ", field, ".span holds, bytes ",
                                                   span.begin, " to ", span.end, " of the context"));
  }
  return span;
}

// The marked answer has to be among the tokens that truncation leaves: the prompt up to its end has to fit, or from its
// beginning on.
absl::Status CheckAnswerKept(const ServedModel& model, const SourceRules& rules, std::string_view context, Span span,
                             const std::string& field) {
  const bool left = model.tokenizer().truncates_left();
  const auto begin = static_cast<size_t>(left ? span.begin : 0);
  const auto end = left ? context.size() : static_cast<size_t>(span.end);
  TaskPrompt part_task = rules.prompt;
  if (left) part_task.prefix.clear();
  const std::string part = HighlightPrompt(
      part_task, context.substr(begin, end - begin),
      {.begin = span.begin - static_cast<int64_t>(begin), .end = span.end - static_cast<int64_t>(begin)});
  const size_t kept = model.KeptTokens(rules.most_tokens, rules.languages);
  const absl::StatusOr<Encoding> encoding =
      model.tokenizer().Encode(part, {.add_special_tokens = false, .max_tokens = kept});
  if (!encoding.ok()) return encoding.status();
  if (!encoding->too_long) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s is not within the %s %d tokens of the prompt, which are what truncation leaves; the answer has to stay "
      "within them",
      field, left ? "last" : "first", kept));
}

absl::Status CheckAnswers(const GenerationRequest& request, std::string_view context, const TaskPrompt& task) {
  if (request.answers.empty()) {
    return absl::InvalidArgumentError("answers is empty; the highlight format needs at least one answer");
  }
  if (request.answers.size() > kMaxAnswers) {
    return absl::InvalidArgumentError(
        absl::StrCat("answers has ", request.answers.size(), " entries; allowed are 1 to ", kMaxAnswers));
  }
  const size_t prompt = task.prefix.size() + context.size();
  if (prompt > kMaxPromptBytes / request.answers.size()) {
    return absl::InvalidArgumentError(absl::StrCat("context has ", context.size(), " bytes and answers ",
                                                   request.answers.size(), " entries; allowed are ", kMaxPromptBytes,
                                                   " bytes of prompts in one request"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CallPlan>> PlanQuestions(const std::shared_ptr<JobMaker>& maker,
                                                        const GenerationRequest& request) {
  const std::string& context = std::get<std::string>(request.input);
  const SourceRules& rules = maker->source_rules();
  // There is no plan for the others yet.
  const QuestionFormat& format = maker->model().config().questions->format;
  if (format.kind != QuestionFormat::Kind::kHighlight || format.spaces != QuestionFormat::Spaces::kInside) {
    return absl::UnimplementedError("tasks.questions of the model's configuration: this format is not served yet");
  }
  if (const absl::Status status = CheckText(context, "context"); !status.ok()) return status;
  if (const absl::Status status = CheckAnswers(request, context, rules.prompt); !status.ok()) return status;
  // All answers are looked at before the first is tokenized.
  std::vector<Span> spans;
  std::vector<v1::Answer> answers;
  for (size_t i = 0; i < request.answers.size(); ++i) {
    const absl::StatusOr<Span> span = FindSpan(request.answers[i], context, absl::StrCat("answers[", i, "]"));
    if (!span.ok()) return span.status();
    spans.push_back(*span);
    v1::Answer& answer = answers.emplace_back();
    answer.set_text(std::string(Held(context, *span)));
    answer.mutable_span()->set_begin(span->begin);
    answer.mutable_span()->set_end(span->end);
  }
  std::vector<PlannedJob> jobs;
  for (size_t i = 0; i < spans.size(); ++i) {
    absl::StatusOr<PlannedJob> job = maker->OfText(HighlightPrompt(rules.prompt, context, spans[i]), "context");
    if (!job.ok()) return job.status();
    if (job->truncated) {
      const absl::Status kept =
          CheckAnswerKept(maker->model(), rules, context, spans[i], absl::StrCat("answers[", i, "]"));
      if (!kept.ok()) return kept;
    }
    jobs.push_back(*std::move(job));
  }
  return std::make_unique<OutputsPlan>(std::move(jobs), std::move(answers));
}

}  // namespace elserve
