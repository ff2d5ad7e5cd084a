#include "server/requests/end_to_end_questions.h"

#include <string_view>

namespace elserve {
namespace {

constexpr char kField[] = "context";

}  // namespace

absl::StatusOr<std::vector<Window>> EndToEndQuestions::Windows() {
  if (!rules_) {
    absl::StatusOr<PlannedJob> job = maker_->OfText(MakeQuestionPrompt(format_, context_).text, kField,
                                                    /*suffix=*/!format_.suffix.empty());
    if (!job.ok()) return job.status();
    std::vector<Window> whole;
    whole.push_back({.span = {0, static_cast<uint32_t>(context_.size())}, .job = *std::move(job)});
    return whole;
  }
  return WindowJobs(maker_.get(), *rules_, context_, kField).All([this](std::string_view part, size_t) {
    return MakeQuestionPrompt(format_, part).text;
  });
}

absl::StatusOr<std::vector<PlannedJob>> EndToEndQuestions::Start() {
  absl::StatusOr<std::vector<Window>> windows = Windows();
  if (!windows.ok()) return windows.status();
  std::vector<PlannedJob> jobs;
  std::vector<Span> sources;
  for (Window& window : *windows) {
    jobs.push_back(std::move(window.job));
    sources.push_back({.begin = window.span.begin, .end = window.span.end});
  }
  parts_ = OrderedParts(/*round=*/1, sources);
  return jobs;
}

void EndToEndQuestions::OnText(size_t job, std::string text, std::span<const int32_t>, CallEvents* events) {
  parts_.AddText(job, text);
  Advance(events);
}

absl::StatusOr<std::vector<PlannedJob>> EndToEndQuestions::OnResult(size_t job, CallOutput output, CallEvents* events) {
  parts_.End(job, std::move(output));
  Advance(events);
  return std::vector<PlannedJob>();
}

// Of a context of which no window has said anything, that is no answer.
absl::Status EndToEndQuestions::OnExpired(size_t job, absl::Status late, CallEvents* events) {
  parts_.Expire(job);
  Advance(events);
  return parts_.all_told() && questions_.empty() ? late : absl::OkStatus();
}

void EndToEndQuestions::Advance(CallEvents* events) {
  while (const std::optional<OrderedParts::News> news = parts_.Next()) {
    const v1::Part& part = parts_[news->part];
    for (const std::string& written : splitter_.Push(news->text)) Add(written, part.source(), events);
    if (!news->ended) continue;
    if (const std::optional<std::string> last = splitter_.Finish()) Add(*last, part.source(), events);
    splitter_ = QuestionSplitter(format_.separator);
    if (events != nullptr) events->AddPart(part);
  }
}

void EndToEndQuestions::Add(const std::string& written, const v1::Span& window, CallEvents* events) {
  const auto begin = static_cast<size_t>(window.begin()), end = static_cast<size_t>(window.end());
  WrittenQuestion question = ReadQuestion(format_, written, std::string_view(context_).substr(begin, end - begin));
  if (!asked_.insert(question.text).second) return;
  if (question.span) question.span->begin += window.begin(), question.span->end += window.begin();
  if (events != nullptr) events->AddDelta(static_cast<int>(questions_.size()), question.text, {});
  questions_.push_back(std::move(question));
}

CallAnswer EndToEndQuestions::Fold() {
  CallAnswer answer;
  for (WrittenQuestion& question : questions_) {
    answer.outputs.emplace_back().hypotheses.emplace_back().set_text(std::move(question.text));
    v1::Answer& asked = answer.answers.emplace_back();
    asked.set_text(std::move(question.answer));
    if (!question.span) continue;
    asked.mutable_span()->set_begin(question.span->begin);
    asked.mutable_span()->set_end(question.span->end);
  }
  parts_.MoveTo(&answer.parts);
  return answer;
}

}  // namespace elserve
