#include "server/text/question_splitter.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/text/golden_questions.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

QuestionFormat Written(const char* separator, const char* item) {
  return {.kind = QuestionFormat::Kind::kEndToEnd, .separator = separator, .item = *ParseItem(item)};
}

// All questions of a whole output, as the plan of such calls reads them.
std::vector<WrittenQuestion> ReadQuestions(const QuestionFormat& format, std::string_view output,
                                           std::string_view context) {
  QuestionSplitter splitter(format.separator);
  std::vector<std::string> written = splitter.Push(output);
  if (std::optional<std::string> last = splitter.Finish()) written.push_back(*std::move(last));
  std::vector<WrittenQuestion> questions;
  questions.reserve(written.size());
  for (const std::string& one : written) questions.push_back(ReadQuestion(format, one, context));
  return questions;
}

// All questions, however the output is cut.
std::vector<std::string> Split(const std::string& output, const std::string& separator, size_t piece) {
  QuestionSplitter splitter(separator);
  std::vector<std::string> all;
  for (size_t begin = 0; begin < output.size(); begin += piece) {
    for (std::string& question : splitter.Push(output.substr(begin, piece))) all.push_back(std::move(question));
  }
  if (auto last = splitter.Finish()) all.push_back(*last);
  EXPECT_EQ(splitter.Finish(), std::nullopt);
  return all;
}

TEST(QuestionSplitter, QuestionsStandBetweenSeparators) {
  for (const size_t piece : {1, 2, 3, 100}) {
    EXPECT_THAT(Split("One? <sep> Two?<sep>Three?", "<sep>", piece), ElementsAre("One?", "Two?", "Three?"));
    EXPECT_THAT(Split("One? <sep>", "<sep>", piece), ElementsAre("One?"));
    EXPECT_THAT(Split("One?", "<sep>", piece), ElementsAre("One?"));
    EXPECT_THAT(Split(" \u3000One \t?\u3000\n<sep>", "<sep>", piece), ElementsAre("One \t?"));
    EXPECT_THAT(Split("<sep> <sep>\u3000<sep>A<sep><sep> ", "<sep>", piece), ElementsAre("A"));
    EXPECT_THAT(Split("A <se B <sep C", "<sep>", piece), ElementsAre("A <se B <sep C"));
    EXPECT_THAT(Split("A|B|C", "|", piece), ElementsAre("A", "B", "C"));
    EXPECT_THAT(Split("aabaabaaab x", "aab", piece), ElementsAre("a", "x"));
    EXPECT_THAT(Split("", "<sep>", piece), IsEmpty());
  }
}

TEST(QuestionSplitter, GivesAQuestionOutOnceItsSeparatorCame) {
  QuestionSplitter splitter("<sep>");
  EXPECT_THAT(splitter.Push("One? <se"), IsEmpty());
  EXPECT_THAT(splitter.Push("p"), IsEmpty());
  EXPECT_THAT(splitter.Push("> Two? <sep> Three? <sep> Fo"), ElementsAre("One?", "Two?", "Three?"));
  EXPECT_THAT(splitter.Push("ur?"), IsEmpty());
  EXPECT_EQ(splitter.Finish(), "Four?");
  EXPECT_THAT(splitter.Push("as new<sep>"), ElementsAre("as new"));
}

TEST(QuestionSplitter, PiecesDoNotMatter) {
  std::mt19937 random(3);
  const std::vector<std::string> parts = {"<", "<<", "s", ">", "<s>", "é", " ", "?", "<s"};
  for (int round = 0; round < 2000; ++round) {
    std::string output;
    for (size_t i = random() % 20; i > 0; --i) output += parts[random() % parts.size()];
    const std::vector<std::string> whole = Split(output, "<s>", output.size() + 1);
    EXPECT_EQ(Split(output, "<s>", 1 + random() % 5), whole) << output;
  }
}

TEST(QuestionSplitter, OutputsAreReadAsTheProjectsThatTrainSuchModelsDo) {
  const nlohmann::json cases = ReadGoldenQuestions("outputs");
  ASSERT_GT(cases.size(), 5u);
  for (const nlohmann::json& test : cases) {
    std::vector<std::pair<std::string, std::string>> questions;
    for (const WrittenQuestion& question :
         ReadQuestions(ToQuestionFormat(test["keys"]), test["output"].get<std::string>(), "")) {
      questions.emplace_back(question.text, question.answer);
    }
    EXPECT_EQ(nlohmann::json(questions).dump(), test["questions"].dump()) << test.dump();
  }
}

TEST(QuestionSplitter, AnswersAreLookedUpInTheContext) {
  const QuestionFormat format = Written(" | ", "question: {question}, answer: {answer}");
  const auto questions = ReadQuestions(
      format, "question: Où?, answer: là | question: Who?, answer: nobody | question: What?, answer: été", "été là là");
  ASSERT_EQ(questions.size(), 3u);
  EXPECT_EQ(questions[0].text, "Où?");
  EXPECT_EQ(questions[0].answer, "là");
  EXPECT_EQ(questions[0].span, (Span{6, 9}));
  EXPECT_EQ(questions[1].answer, "nobody");
  EXPECT_EQ(questions[1].span, std::nullopt);
  EXPECT_EQ(questions[2].span, (Span{0, 5}));
}

TEST(QuestionSplitter, WhatIsNotWrittenLikeTheItemIsAQuestionAsAWhole) {
  const QuestionFormat format = Written("|", "question: {question}, answer: {answer}");
  for (const char* written :
       {"Who?", "question: Who?", "question: Who?, answer:", "question:  , answer: me", "question: Who?, answer:  "}) {
    const WrittenQuestion question = ReadQuestion(format, written, "me");
    EXPECT_EQ(question.text, written);
    EXPECT_EQ(question.answer, "");
    EXPECT_EQ(question.span, std::nullopt);
  }
  const WrittenQuestion plain = ReadQuestion({.kind = QuestionFormat::Kind::kEndToEnd}, "question: a, answer: b", "b");
  EXPECT_EQ(plain.text, "question: a, answer: b");
  EXPECT_EQ(plain.answer, "");
}

TEST(QuestionSplitter, AnItemMayHaveItsAnswerFirst) {
  const WrittenQuestion question =
      ReadQuestion(Written("\n", "{answer} <sep> {question}"), "me <sep> Who? ", "it is me");
  EXPECT_EQ(question.text, "Who?");
  EXPECT_EQ(question.answer, "me");
  EXPECT_EQ(question.span, (Span{6, 8}));
}

}  // namespace
}  // namespace elserve
