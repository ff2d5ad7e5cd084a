#include "server/text/prompts.h"

#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Prompts, SummaryIsPrefixAndDocument) {
  EXPECT_EQ(SummaryPrompt({}, "a text"), "a text");
  EXPECT_EQ(SummaryPrompt({.prefix = "summarize: "}, "a text"), "summarize: a text");
}

TEST(Prompts, TheFirstOccurrenceIsTaken) {
  EXPECT_EQ(*FindAnswer("a cat, a cat", "cat", "answers[0].text"), (Span{2, 5}));
  EXPECT_EQ(*FindAnswer("日本 日本", "本", "answers[0].text"), (Span{3, 6}));
  EXPECT_EQ(*FindAnswer("all", "all", "answers[0].text"), (Span{0, 3}));
}

TEST(Prompts, AnAnswerThatDoesNotOccurIsAnError) {
  for (const char* answer : {"dog", "Cat", "cats", "a cat "}) {
    const absl::Status status = FindAnswer("a cat", answer, "answers[3].text").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << answer;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("answers[3].text"), HasSubstr(answer), HasSubstr("does not occur in the context")));
  }
  EXPECT_THAT(std::string(FindAnswer("a", "", "answers[0].text").status().message()),
              HasSubstr("answers[0].text is empty"));
  EXPECT_EQ(FindAnswer("", "a", "f").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Prompts, ALongAnswerIsQuotedInPart) {
  std::string answer = "x";
  for (int i = 0; i < 1000; ++i) answer += "é";
  const std::string message(FindAnswer("a", answer, "f").status().message());
  EXPECT_LT(message.size(), 300u);
  EXPECT_THAT(message, HasSubstr("é\"..."));
}

TEST(Prompts, SpansOnBoundariesAreTaken) {
  const std::string context = "aé日";
  for (const Span span : {Span{0, 1}, Span{0, 6}, Span{1, 3}, Span{3, 6}}) {
    EXPECT_TRUE(CheckSpan(context, span, "answers[0].span").ok()) << span.begin << " " << span.end;
  }
}

TEST(Prompts, BadSpansNameFieldValueAndRange) {
  const std::string context = "aé日";  // 6 bytes
  const int64_t huge = std::numeric_limits<int64_t>::max();
  const struct {
    Span span;
    const char* field;
    const char* problem;
  } cases[] = {{{-1, 2}, "answers[1].span.begin is -1", "from 0 to below 6"},
               {{6, 7}, "answers[1].span.begin is 6", "from 0 to below 6"},
               {{huge, huge}, "answers[1].span.begin is 9223372036854775807", "from 0 to below 6"},
               {{0, 0}, "answers[1].span.end is 0", "above begin, 0"},
               {{3, 1}, "answers[1].span.end is 1", "above begin, 3"},
               {{0, 7}, "answers[1].span.end is 7", "at most the context's 6 bytes"},
               {{0, huge}, "answers[1].span.end is 9223372036854775807", "6 bytes"},
               {{2, 3}, "answers[1].span.begin is 2", "inside the character at bytes 1 to 3"},
               {{1, 5}, "answers[1].span.end is 5", "inside the character at bytes 3 to 6"}};
  for (const auto& test : cases) {
    const absl::Status status = CheckSpan(context, test.span, "answers[1].span");
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(test.field), HasSubstr(test.problem)));
  }
  EXPECT_EQ(CheckSpan("", {0, 0}, "f").code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace elserve
