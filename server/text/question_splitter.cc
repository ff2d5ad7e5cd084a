#include "server/text/question_splitter.h"

#include <algorithm>
#include <utility>

#include "server/text/word_splitter.h"

namespace elserve {
namespace {

std::string_view Trimmed(std::string_view text) {
  const size_t begin = SpaceAfter(text, 0);
  return text.substr(begin, SpaceBefore(text, text.size(), begin) - begin);
}

}  // namespace

std::vector<std::string> QuestionSplitter::Push(std::string_view piece) {
  open_ += piece;
  std::vector<std::string> questions;
  size_t begin = 0;
  for (size_t at = open_.find(separator_, searched_); at != std::string::npos; at = open_.find(separator_, begin)) {
    const std::string_view question = Trimmed(std::string_view(open_).substr(begin, at - begin));
    if (!question.empty()) questions.emplace_back(question);
    begin = at + separator_.size();
  }
  open_.erase(0, begin);
  // The end may be the beginning of a separator.
  searched_ = open_.size() - std::min(open_.size(), separator_.size() - 1);
  return questions;
}

std::optional<std::string> QuestionSplitter::Finish() {
  std::string question(Trimmed(open_));
  open_.clear();
  searched_ = 0;
  if (question.empty()) return std::nullopt;
  return question;
}

WrittenQuestion ReadQuestion(const QuestionFormat& format, std::string_view written, std::string_view context) {
  if (!format.item) return {.text = std::string(written)};
  const std::optional<std::vector<std::string_view>> parts = format.item->Match(written);
  if (!parts) return {.text = std::string(written)};
  const std::string_view text = Trimmed((*parts)[0]);
  const std::string_view answer = Trimmed((*parts)[1]);
  if (text.empty() || answer.empty()) return {.text = std::string(written)};
  WrittenQuestion question{.text = std::string(text), .answer = std::string(answer)};
  const absl::StatusOr<Span> span = FindAnswer(context, answer, "answer");
  if (span.ok()) question.span = *span;
  return question;
}

}  // namespace elserve
