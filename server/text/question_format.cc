#include "server/text/question_format.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

using Kind = QuestionFormat::Kind;
using Spaces = QuestionFormat::Spaces;

constexpr std::array<std::string_view, 2> kTemplateNames = {"answer", "context"};
constexpr std::array<std::string_view, 2> kItemNames = {"question", "answer"};

uint32_t Offset(size_t offset) { return static_cast<uint32_t>(offset); }

QuestionPrompt HighlightedPrompt(const QuestionFormat& format, std::string_view context, TextSpan answer) {
  const char* const inside = format.spaces == Spaces::kInside || format.spaces == Spaces::kBoth ? " " : "";
  const char* const outside = format.spaces == Spaces::kOutside || format.spaces == Spaces::kBoth ? " " : "";
  QuestionPrompt prompt{.text = format.prefix, .kept = {}};
  std::string& text = prompt.text;
  text.reserve(format.prefix.size() + context.size() + 2 * format.highlight.size() + 4);
  text.append(context.substr(0, answer.begin)).append(outside);
  prompt.kept.begin = Offset(text.size());
  text.append(format.highlight).append(inside);
  text.append(context.substr(answer.begin, answer.end - answer.begin));
  text.append(inside).append(format.highlight);
  prompt.kept.end = Offset(text.size());
  text.append(outside).append(context.substr(answer.end));
  return prompt;
}

QuestionPrompt TemplatePrompt(const QuestionFormat& format, std::string_view context, TextSpan answer) {
  const std::string_view held = context.substr(answer.begin, answer.end - answer.begin);
  TextPattern::Filled filled = format.pattern.Fill(std::array{held, context});
  const auto [own, around] = std::array{filled.places[0], filled.places[1]};
  return {.text = std::move(filled.text),
          .kept = {std::min(own.begin, around.begin + answer.begin), std::max(own.end, around.begin + answer.end)}};
}

}  // namespace

std::string_view NameOf(Kind kind) {
  switch (kind) {
    case Kind::kHighlight:
      return "highlight";
    case Kind::kTemplate:
      return "template";
    case Kind::kEndToEnd:
      break;
  }
  return "end_to_end";
}

std::string_view NameOf(Spaces spaces) {
  switch (spaces) {
    case Spaces::kNone:
      return "none";
    case Spaces::kInside:
      return "inside";
    case Spaces::kOutside:
      return "outside";
    case Spaces::kBoth:
      break;
  }
  return "both";
}

absl::StatusOr<TextPattern> ParseTemplate(std::string_view text) { return TextPattern::Parse(text, kTemplateNames); }

absl::StatusOr<TextPattern> ParseItem(std::string_view text) {
  absl::StatusOr<TextPattern> item = TextPattern::Parse(text, kItemNames);
  if (item.ok() && !item->divides()) {
    return absl::InvalidArgumentError("a text with something between {question} and {answer}, that tells them apart");
  }
  return item;
}

absl::Status CheckAnswerCount(const QuestionFormat& format, size_t answers) {
  if (format.kind != Kind::kEndToEnd && answers == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("answers is empty; the ", std::string(NameOf(format.kind)), " format needs at least one answer"));
  }
  if (format.kind == Kind::kEndToEnd && answers > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "answers has ", answers, " entries; the end_to_end format allows none: the model asks what it finds itself"));
  }
  return absl::OkStatus();
}

absl::Status CheckContext(const QuestionFormat& format, std::string_view context) {
  if (format.kind != Kind::kHighlight) return absl::OkStatus();
  const std::string& mark = format.highlight;
  const void* const found = memmem(context.data(), context.size(), mark.data(), mark.size());
  if (found == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("context has \"", mark, "\" at byte ", static_cast<const char*>(found) - context.data(),
                   "; it is the mark that stands around an answer, and allowed nowhere else"));
}

std::string_view QuestionPrompt::KeptPart(bool truncates_left) const {
  const std::string_view all = text;
  return truncates_left ? all.substr(kept.begin) : all.substr(0, kept.end);
}

QuestionPrompt MakeQuestionPrompt(const QuestionFormat& format, std::string_view context, Span answer) {
  const TextSpan span{static_cast<uint32_t>(answer.begin), static_cast<uint32_t>(answer.end)};
  switch (format.kind) {
    case Kind::kHighlight:
      return HighlightedPrompt(format, context, span);
    case Kind::kTemplate:
      return TemplatePrompt(format, context, span);
    case Kind::kEndToEnd:
      break;
  }
  return {.text = absl::StrCat(format.prefix, std::string(context), format.suffix), .kept = {}};
}

}  // namespace elserve
