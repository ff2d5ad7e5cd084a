#include "server/text/prompts.h"

#include <cstring>

#include "absl/strings/str_format.h"
#include "server/text/utf8.h"

namespace elserve {

std::string SummaryPrompt(const TaskPrompt& task, std::string_view document) {
  std::string prompt = task.prefix;
  prompt += document;
  prompt += task.suffix;
  return prompt;
}

absl::StatusOr<Span> FindAnswer(std::string_view context, std::string_view answer, std::string_view field) {
  if (answer.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is empty: it must be a part of the context", field));
  }
  // Not string_view::find, which takes the product of both lengths on hostile texts.
  const void* const found = memmem(context.data(), context.size(), answer.data(), answer.size());
  if (found == nullptr) {
    constexpr size_t kQuotedBytes = 80;
    size_t quoted = answer.size() < kQuotedBytes ? answer.size() : kQuotedBytes;
    while (!IsCharacterBoundary(answer, quoted)) --quoted;
    return absl::InvalidArgumentError(
        absl::StrFormat("%s \"%s\"%s does not occur in the context: it must be a part of it, to the byte", field,
                        answer.substr(0, quoted), quoted < answer.size() ? "..." : ""));
  }
  const int64_t begin = static_cast<const char*>(found) - context.data();
  return Span{begin, begin + static_cast<int64_t>(answer.size())};
}

absl::Status CheckSpan(std::string_view text, Span span, std::string_view field, std::string_view name) {
  const auto size = static_cast<int64_t>(text.size());
  if (span.begin < 0 || span.begin >= size) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s.begin is %d: it must be a byte offset in the %s, from 0 to below %d", field, span.begin, name, size));
  }
  if (span.end <= span.begin || span.end > size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s.end is %d: it must be above begin, %d, and at most the %s's %d bytes", field, span.end,
                        span.begin, name, size));
  }
  for (const bool is_begin : {true, false}) {
    const int64_t offset = is_begin ? span.begin : span.end;
    if (IsCharacterBoundary(text, static_cast<size_t>(offset))) continue;
    int64_t before = offset;
    int64_t after = offset;
    while (!IsCharacterBoundary(text, static_cast<size_t>(before))) --before;
    while (!IsCharacterBoundary(text, static_cast<size_t>(after))) ++after;
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s.%s is %d, inside the character at bytes %d to %d: offsets count bytes of UTF-8 and must lie on a "
        "character's boundary",
        field, is_begin ? "begin" : "end", offset, before, after));
  }
  return absl::OkStatus();
}

}  // namespace elserve
