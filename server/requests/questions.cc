#include "server/requests/questions.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/requests/chunks.h"
#include "server/requests/end_to_end_questions.h"
#include "server/requests/outputs_plan.h"
#include "server/requests/request_checks.h"
#include "server/text/prompts.h"
#include "server/text/question_format.h"

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

// What stays of a prompt that is cut has to hold the answer, as the format says.
absl::Status CheckAnswerKept(const JobMaker& maker, const QuestionPrompt& prompt, const std::string& field) {
  const ServedModel& model = maker.model();
  const SourceRules& rules = maker.source_rules();
  const bool left = model.tokenizer().truncates_left();
  const size_t kept = model.KeptTokens(rules.most_tokens, rules.languages);
  const absl::StatusOr<Encoding> encoding =
      model.tokenizer().Encode(prompt.KeptPart(left), {.add_special_tokens = false, .max_tokens = kept});
  if (!encoding.ok()) return encoding.status();
  if (!encoding->too_long) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s is not within the %s %d tokens of the prompt, which are what truncation leaves; the answer has to stay "
      "within them",
      field, left ? "last" : "first", kept));
}

absl::Status CheckAnswers(const GenerationRequest& request, const QuestionFormat& format, std::string_view context) {
  const size_t count = request.answers.size();
  if (const absl::Status status = CheckAnswerCount(format, count); !status.ok()) return status;
  if (count > kMaxAnswers) {
    return absl::InvalidArgumentError(absl::StrCat("answers has ", count, " entries; allowed are 1 to ", kMaxAnswers));
  }
  // A template may have the context twice: an answer may be all of it.
  const size_t copies = count * (format.kind == QuestionFormat::Kind::kTemplate ? 2 : 1);
  if (count > 0 && context.size() > kMaxPromptBytes / copies) {
    return absl::InvalidArgumentError(absl::StrCat("context has ", context.size(), " bytes and answers ", count,
                                                   " entries; allowed are ", kMaxPromptBytes,
                                                   " bytes of prompts in one request"));
  }
  return CheckContext(format, context);
}

// Makes the job of each answer.
class AnswerJobs {
 public:
  // `rules`: with TRUNCATION_CHUNK.
  AnswerJobs(JobMaker* maker, const QuestionFormat& format, std::string_view context,
             const std::optional<ChunkRules>& rules)
      : maker_(maker), format_(format), context_(context) {
    if (rules) windows_.emplace(maker, *rules, context, "context");
  }

  absl::StatusOr<PlannedJob> Make(Span answer, const std::string& field) {
    if (!windows_) return OfWhole(answer, field);
    const TextSpan inside{static_cast<uint32_t>(answer.begin), static_cast<uint32_t>(answer.end)};
    const auto prompt = [&](std::string_view part, size_t begin) {
      const auto offset = static_cast<int64_t>(begin);
      return MakeQuestionPrompt(format_, part, {.begin = answer.begin - offset, .end = answer.end - offset}).text;
    };
    absl::StatusOr<Window> window = windows_->Around(inside, prompt, field);
    if (!window.ok()) return window.status();
    return std::move(window->job);
  }

 private:
  absl::StatusOr<PlannedJob> OfWhole(Span answer, const std::string& field) const {
    const QuestionPrompt prompt = MakeQuestionPrompt(format_, context_, answer);
    absl::StatusOr<PlannedJob> job = maker_->OfText(prompt.text, "context");
    if (!job.ok() || !job->truncated) return job;
    if (const absl::Status kept = CheckAnswerKept(*maker_, prompt, field); !kept.ok()) return kept;
    return job;
  }

  JobMaker* const maker_;
  const QuestionFormat& format_;
  const std::string_view context_;
  std::optional<WindowJobs> windows_;
};

absl::StatusOr<std::unique_ptr<CallPlan>> PlanEndToEnd(const std::shared_ptr<JobMaker>& maker,
                                                       const QuestionFormat& format, const GenerationRequest& request,
                                                       const std::string& context) {
  if (const absl::Status status = maker->CheckOneText(request, "the end_to_end format"); !status.ok()) return status;
  const absl::StatusOr<std::optional<ChunkRules>> rules = ChunkRulesOf(*maker, request, context);
  if (!rules.ok()) return rules.status();
  return std::make_unique<EndToEndQuestions>(maker, format, *rules, context);
}

// Each answer as responses have it. All are looked at before the first is tokenized.
absl::StatusOr<std::vector<v1::Answer>> FindAnswers(const GenerationRequest& request, std::string_view context) {
  std::vector<v1::Answer> answers;
  for (size_t i = 0; i < request.answers.size(); ++i) {
    const absl::StatusOr<Span> span = FindSpan(request.answers[i], context, absl::StrCat("answers[", i, "]"));
    if (!span.ok()) return span.status();
    v1::Answer& answer = answers.emplace_back();
    answer.set_text(std::string(Held(context, *span)));
    answer.mutable_span()->set_begin(span->begin);
    answer.mutable_span()->set_end(span->end);
  }
  return answers;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CallPlan>> PlanQuestions(const std::shared_ptr<JobMaker>& maker,
                                                        const GenerationRequest& request) {
  const std::string& context = std::get<std::string>(request.input);
  const QuestionFormat& format = maker->model().config().questions->format;
  if (const absl::Status status = CheckText(context, "context"); !status.ok()) return status;
  if (const absl::Status status = CheckAnswers(request, format, context); !status.ok()) return status;
  if (format.kind == QuestionFormat::Kind::kEndToEnd) return PlanEndToEnd(maker, format, request, context);
  absl::StatusOr<std::vector<v1::Answer>> answers = FindAnswers(request, context);
  if (!answers.ok()) return answers.status();
  const absl::StatusOr<std::optional<ChunkRules>> rules = ChunkRulesOf(*maker, request, context);
  if (!rules.ok()) return rules.status();
  AnswerJobs make(maker.get(), format, context, *rules);
  std::vector<PlannedJob> jobs;
  for (size_t i = 0; i < answers->size(); ++i) {
    const v1::Span& span = (*answers)[i].span();
    absl::StatusOr<PlannedJob> job =
        make.Make({.begin = span.begin(), .end = span.end()}, absl::StrCat("answers[", i, "]"));
    if (!job.ok()) return job.status();
    jobs.push_back(*std::move(job));
  }
  return std::make_unique<OutputsPlan>(std::move(jobs), *std::move(answers));
}

}  // namespace elserve
