#include "server/text/sentences.h"

#include <chrono>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Cut(const std::string& text, const std::vector<uint32_t>& ends) {
  std::vector<std::string> parts;
  uint32_t begin = 0;
  for (const uint32_t end : ends) {
    parts.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  EXPECT_EQ(begin, text.size()) << text;
  return parts;
}

std::vector<std::string> Sentences(const std::string& text) { return Cut(text, *SentenceEnds(text)); }
std::vector<std::string> Words(const std::string& text) { return Cut(text, *WordEnds(text)); }

TEST(Sentences, EndBehindTheWhiteSpaceThatFollows) {
  EXPECT_THAT(Sentences("A cat. A dog?  \t Yes!"), ElementsAre("A cat. ", "A dog?  \t ", "Yes!"));
  EXPECT_THAT(Sentences("One sentence."), ElementsAre("One sentence."));
  EXPECT_THAT(Sentences("Ends in a space. "), ElementsAre("Ends in a space. "));
  EXPECT_THAT(Sentences("no end"), ElementsAre("no end"));
}

TEST(Sentences, NumbersAndQuotesDoNotEndThem) {
  EXPECT_THAT(Sentences("Version 1.5 is out. \"Now.\" It works."),
              ElementsAre("Version 1.5 is out. ", "\"Now.\" ", "It works."));
  EXPECT_THAT(Sentences("See e.g. this one."), ElementsAre("See e.g. this one."));
}

TEST(Sentences, EndWithoutASpaceWhereTheScriptHasNone) {
  EXPECT_THAT(Sentences("日本語です。はい!\u3000次。"), ElementsAre("日本語です。", "はい!\u3000", "次。"));
  EXPECT_THAT(Sentences("यह हिंदी है। दूसरा वाक्य।"), ElementsAre("यह हिंदी है। ", "दूसरा वाक्य।"));
}

TEST(Sentences, ALineEndAloneIsNone) {
  EXPECT_THAT(Sentences("wrapped\ntext goes\r\non. Next"), ElementsAre("wrapped\ntext goes\r\non. ", "Next"));
  EXPECT_THAT(Sentences("an end.\nAnother\rone"), ElementsAre("an end.\n", "Another\rone"));
  EXPECT_THAT(Sentences("a \n b\n"), ElementsAre("a \n b\n"));
}

TEST(Sentences, AnEmptyLineIsOne) {
  EXPECT_THAT(Sentences("A title\n\nsome text"), ElementsAre("A title\n\n", "some text"));
  EXPECT_THAT(Sentences("A title\r\n\r\nsome text"), ElementsAre("A title\r\n\r\n", "some text"));
  EXPECT_THAT(Sentences("a\n  \t\nb\n\n\n c"), ElementsAre("a\n  \t\n", "b\n\n\n ", "c"));
  EXPECT_THAT(Sentences("a\r\rb"), ElementsAre("a\r\r", "b"));
}

TEST(Sentences, WhiteSpaceAtTheBeginningBelongsToTheFirst) {
  EXPECT_THAT(Sentences(" \n\n A. B."), ElementsAre(" \n\n A. ", "B."));
  EXPECT_THAT(Sentences(" \n\n "), ElementsAre(" \n\n "));
  EXPECT_THAT(Sentences("\u3000A."), ElementsAre("\u3000A."));
  EXPECT_THAT(*SentenceEnds(""), IsEmpty());
}

TEST(Words, EndBehindTheirWhiteSpace) {
  EXPECT_THAT(Words("a word, and"), ElementsAre("a ", "word, ", "and"));
  EXPECT_THAT(Words("日本語"), ElementsAre("日", "本", "語"));
  EXPECT_THAT(*WordEnds(""), IsEmpty());
}

TEST(Sentences, EndOnCharactersAscending) {
  std::mt19937 random(7);
  const std::vector<std::string> parts = {"a",  "B",  ".", "?",      " ", "\n", "\r",     "é",
                                          "日", "。", "😀", "\u2028", "1", ")",  "\u0301", "ก"};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t i = random() % 40; i > 0; --i) text += parts[random() % parts.size()];
    for (const auto& ends : {*SentenceEnds(text), *WordEnds(text)}) {
      uint32_t last = 0;
      for (const uint32_t end : ends) {
        EXPECT_GT(end, last) << text;
        EXPECT_TRUE(IsCharacterBoundary(text, end)) << text;
        last = end;
      }
      EXPECT_EQ(last, text.size()) << text;
    }
  }
}

// A megabyte of what makes a cutter look ahead or go back; linear work is some hundredths of a second.
TEST(Sentences, HostileTextsTakeLinearTime) {
  for (const std::string part :
       {"\n", " ",  ". ",  "a. ",     "1.", ".)", "a.)\n", "Aa", "é",      "日", "。", "\u0301",
        "😀",  "กา", "မြန်", "\u200D😀", "🇩",  "\"", "«»",    "1,", "\u2028", "- ", "한"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += part;
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(SentenceEnds(text).ok() && WordEnds(text).ok());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(seconds.count(), 10) << part;
  }
}

}  // namespace
}  // namespace elserve
