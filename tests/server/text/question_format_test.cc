#include "server/text/question_format.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/text/golden_questions.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Kind = QuestionFormat::Kind;
using Spaces = QuestionFormat::Spaces;

QuestionFormat Template(const char* text) { return {.kind = Kind::kTemplate, .pattern = *ParseTemplate(text)}; }
const QuestionFormat kEndToEnd{.kind = Kind::kEndToEnd, .prefix = "ask: ", .suffix = " !"};

TEST(QuestionFormat, PromptsAreThoseOfTheProjectsThatTrainSuchModels) {
  const nlohmann::json cases = ReadGoldenQuestions("prompts");
  ASSERT_GT(cases.size(), 100u);
  for (const nlohmann::json& test : cases) {
    SCOPED_TRACE(test.dump());
    const QuestionFormat format = ToQuestionFormat(test["keys"]);
    const std::string context = test["context"];
    const Span answer{test["begin"], test["end"]};
    const QuestionPrompt prompt = MakeQuestionPrompt(format, context, answer);
    EXPECT_EQ(prompt.text, test["prompt"].get<std::string>());
    EXPECT_TRUE(CheckContext(format, context).ok());
    if (format.kind == Kind::kEndToEnd) continue;
    const std::string held = context.substr(test["begin"], answer.end - answer.begin);
    EXPECT_THAT(std::string(prompt.KeptPart(false)).substr(prompt.kept.begin), HasSubstr(held));
    EXPECT_THAT(std::string(prompt.KeptPart(true)), HasSubstr(held));
  }
}

TEST(QuestionFormat, DefaultIsTheHighlightWithSpacesInside) {
  EXPECT_EQ(MakeQuestionPrompt({}, "libfoo is a library.", {10, 19}).text,
            "generate question: libfoo is <hl> a library <hl>.");
}

TEST(QuestionFormat, SpacesStandInsideOrOutsideOfTheMarks) {
  const auto prompt = [](Spaces spaces) {
    return MakeQuestionPrompt({.prefix = "", .highlight = "*", .spaces = spaces}, "a b c", {2, 3}).text;
  };
  EXPECT_EQ(prompt(Spaces::kNone), "a *b* c");
  EXPECT_EQ(prompt(Spaces::kInside), "a * b * c");
  EXPECT_EQ(prompt(Spaces::kOutside), "a  *b*  c");
  EXPECT_EQ(prompt(Spaces::kBoth), "a  * b *  c");
}

TEST(QuestionFormat, TheMarksHaveToBeKept) {
  for (const Spaces spaces : {Spaces::kInside, Spaces::kBoth}) {
    const QuestionPrompt prompt = MakeQuestionPrompt({.prefix = "ask: ", .spaces = spaces}, "one two three", {4, 7});
    EXPECT_TRUE(prompt.KeptPart(false).ends_with("<hl> two <hl>"));
    EXPECT_TRUE(prompt.KeptPart(false).starts_with("ask: one "));
    EXPECT_TRUE(prompt.KeptPart(true).starts_with("<hl> two <hl>"));
    EXPECT_TRUE(prompt.KeptPart(true).ends_with(" three"));
  }
}

// The answer has to be left, and in the context what it was taken from: else the question would be about something
// else.
TEST(QuestionFormat, OfATemplateBothPlacesHaveToBeKept) {
  const std::string context = "one two three";
  const QuestionPrompt before = MakeQuestionPrompt(Template("a: {answer} c: {context} end"), context, {4, 7});
  EXPECT_EQ(before.KeptPart(false), "a: two c: one two");
  EXPECT_EQ(before.KeptPart(true), "two c: one two three end");
  const QuestionPrompt behind = MakeQuestionPrompt(Template("c: {context} a: {answer} end"), context, {4, 7});
  EXPECT_EQ(behind.KeptPart(false), "c: one two three a: two");
  EXPECT_EQ(behind.KeptPart(true), "two three a: two end");
}

TEST(QuestionFormat, EndToEndNeedsNothingKept) {
  const QuestionPrompt prompt = MakeQuestionPrompt(kEndToEnd, "a context");
  EXPECT_EQ(prompt.text, "ask: a context !");
  EXPECT_EQ(prompt.kept, (TextSpan{0, 0}));
}

TEST(QuestionFormat, SaysWhichFormatsTakeAnswers) {
  EXPECT_TRUE(CheckAnswerCount({}, 1).ok());
  EXPECT_TRUE(CheckAnswerCount(Template("{answer}{context}"), 7).ok());
  EXPECT_TRUE(CheckAnswerCount(kEndToEnd, 0).ok());
  EXPECT_EQ(CheckAnswerCount({}, 0).message(), "answers is empty; the highlight format needs at least one answer");
  EXPECT_EQ(CheckAnswerCount(Template("{answer}{context}"), 0).message(),
            "answers is empty; the template format needs at least one answer");
  EXPECT_THAT(std::string(CheckAnswerCount(kEndToEnd, 1).message()),
              AllOf(HasSubstr("answers has 1 entries"), HasSubstr("the end_to_end format allows none")));
  EXPECT_EQ(CheckAnswerCount(kEndToEnd, 2).code(), absl::StatusCode::kInvalidArgument);
}

TEST(QuestionFormat, AMarkInTheContextIsAnError) {
  const absl::Status status = CheckContext({}, "日本 <hl> 東京 <hl>");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("context has \"<hl>\" at byte 7"));
  EXPECT_FALSE(CheckContext({}, "<hl>").ok());
  EXPECT_TRUE(CheckContext({}, "<hl").ok());
  EXPECT_TRUE(CheckContext({}, "").ok());
  EXPECT_TRUE(CheckContext({.highlight = "[HL]"}, "<hl>").ok());
  EXPECT_FALSE(CheckContext({.highlight = "[HL]"}, "a[HL]").ok());
  EXPECT_TRUE(CheckContext(Template("<hl>{answer}{context}"), "<hl>").ok());
  EXPECT_TRUE(CheckContext(kEndToEnd, "<hl><sep>").ok());
}

TEST(QuestionFormat, PatternsAreChecked) {
  EXPECT_THAT(std::string(ParseTemplate("{answer}").status().message()),
              AllOf(HasSubstr("a text with {answer} and {context} once each"), HasSubstr("this has no {context}")));
  EXPECT_THAT(std::string(ParseItem("{question}").status().message()), HasSubstr("{question} and {answer} once each"));
  EXPECT_THAT(std::string(ParseItem("{question}{answer}").status().message()), HasSubstr("something between"));
  EXPECT_TRUE(ParseItem("{answer}:{question}").ok());
}

TEST(QuestionFormat, NamesAreThoseOfTheConfiguration) {
  EXPECT_EQ(NameOf(Kind::kHighlight), "highlight");
  EXPECT_EQ(NameOf(Kind::kTemplate), "template");
  EXPECT_EQ(NameOf(Kind::kEndToEnd), "end_to_end");
  EXPECT_EQ(NameOf(Spaces::kNone), "none");
  EXPECT_EQ(NameOf(Spaces::kInside), "inside");
  EXPECT_EQ(NameOf(Spaces::kOutside), "outside");
  EXPECT_EQ(NameOf(Spaces::kBoth), "both");
}

}  // namespace
}  // namespace elserve
