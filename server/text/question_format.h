// What a model that asks questions is given: one of a few forms, which checkpoints are trained on.
#ifndef ELSERVE_SERVER_TEXT_QUESTION_FORMAT_H_
#define ELSERVE_SERVER_TEXT_QUESTION_FORMAT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/text/prompts.h"
#include "server/text/text_pattern.h"
#include "server/text/token_model.h"

namespace elserve {

// What stands before a context where a format says nothing else.
inline constexpr char kQuestionPrefix[] = "generate question: ";
inline constexpr char kEndToEndPrefix[] = "generate questions: ";

struct QuestionFormat {
  enum class Kind {
    kHighlight,  // prefix + before + highlight + answer + highlight + behind: a question for each answer
    kTemplate,   // pattern, with an answer and the context in their places: likewise
    kEndToEnd,   // prefix + context + suffix: one output with all questions that the model has, without answers given
  };
  // Where a space stands beside each mark: towards the answer, or away from it.
  enum class Spaces { kNone, kInside, kOutside, kBoth };

  Kind kind = Kind::kHighlight;
  std::string prefix = kQuestionPrefix;  // kHighlight, kEndToEnd
  std::string suffix = {};               // kEndToEnd
  std::string highlight = "<hl>";        // kHighlight: the mark, not empty
  Spaces spaces = Spaces::kInside;       // kHighlight
  TextPattern pattern = {};              // kTemplate: by ParseTemplate
  std::string separator = "<sep>";       // kEndToEnd: between questions of the output, not empty
  std::optional<TextPattern> item = {};  // kEndToEnd: how a question and its answer are written; by ParseItem
};

// As the configuration and GetModel name them.
std::string_view NameOf(QuestionFormat::Kind kind);
std::string_view NameOf(QuestionFormat::Spaces spaces);

// A text with {answer} and {context}; one with {question} and {answer}, and something between. Errors are to be put
// behind "allowed is ".
absl::StatusOr<TextPattern> ParseTemplate(std::string_view text);
absl::StatusOr<TextPattern> ParseItem(std::string_view text);

// INVALID_ARGUMENT about `answers` unless the format can do with so many.
absl::Status CheckAnswerCount(const QuestionFormat& format, size_t answers);

// INVALID_ARGUMENT about `context` where it has the format's mark in it: the model could not tell it from those of the
// answer.
absl::Status CheckContext(const QuestionFormat& format, std::string_view context);

struct QuestionPrompt {
  std::string text;
  // What a cut has to leave, in bytes of the text: the answer with its marks; of a template the answer's own place, and
  // what of the context it is. Empty without an answer.
  TextSpan kept;

  // The part of the text that has to fit for that: up to its end, or from its beginning on where truncation takes the
  // left.
  std::string_view KeptPart(bool truncates_left) const;
};

// The span must have passed CheckSpan; kEndToEnd needs none.
QuestionPrompt MakeQuestionPrompt(const QuestionFormat& format, std::string_view context, Span answer = {});

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_QUESTION_FORMAT_H_
