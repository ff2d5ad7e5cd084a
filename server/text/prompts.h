// The text that a model is given for a task.
#ifndef ELSERVE_SERVER_TEXT_PROMPTS_H_
#define ELSERVE_SERVER_TEXT_PROMPTS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace elserve {

// A task's settings as the configuration gives them.
struct TaskPrompt {
  std::string prefix = {};  // what stands before the text
  std::string suffix = {};  // what stands behind it
};

// A part of a text: offsets in bytes of UTF-8, begin included, end not. 64 bits and signed, so that whatever a client
// sent can be checked here.
struct Span {
  int64_t begin = 0;
  int64_t end = 0;
  friend bool operator==(const Span&, const Span&) = default;
};

// prefix + document + suffix.
std::string SummaryPrompt(const TaskPrompt& task, std::string_view document);

// Where `answer` first occurs in the context. An empty answer, or one that does not occur, is INVALID_ARGUMENT about
// `field` ("answers[2].text").
absl::StatusOr<Span> FindAnswer(std::string_view context, std::string_view answer, std::string_view field);

// OK if 0 <= begin < end <= text.size() and both are on character boundaries; else INVALID_ARGUMENT about
// `field`.begin or `field`.end ("answers[2].span.begin") with the value and what is allowed. The text must be valid
// UTF-8; `name` is what the client calls it.
absl::Status CheckSpan(std::string_view text, Span span, std::string_view field, std::string_view name = "context");

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_PROMPTS_H_
