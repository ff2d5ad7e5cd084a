#include "server/text/text_pattern.h"

#include <array>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::array<std::string_view, 2> kNames = {"a", "b"};

std::string Error(const std::string& text) {
  const auto pattern = TextPattern::Parse(text, kNames);
  EXPECT_EQ(pattern.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(pattern.status().message());
}

TEST(TextPattern, FillsThePlacesInTheOrderOfTheText) {
  const TextPattern pattern = *TextPattern::Parse("x {b} y{a}", kNames);
  EXPECT_EQ(pattern.text(), "x {b} y{a}");
  const TextPattern::Filled filled = pattern.Fill(std::array<std::string_view, 2>{"AAA", "B"});
  EXPECT_EQ(filled.text, "x B yAAA");
  EXPECT_THAT(filled.places, ElementsAre(TextSpan{5, 8}, TextSpan{2, 3}));
}

TEST(TextPattern, ValuesAreTakenAsTheyAre) {
  const TextPattern pattern = *TextPattern::Parse("{a}{b}", kNames);
  EXPECT_EQ(pattern.Fill(std::array<std::string_view, 2>{"{b}", "{{"}).text, "{b}{{");
  EXPECT_EQ(pattern.Fill(std::array<std::string_view, 2>{"", ""}).text, "");
}

TEST(TextPattern, DoubledBracesAreBraces) {
  EXPECT_EQ(TextPattern::Parse("{{{a}}} {{b}} {b}}}", kNames)->Fill(std::array<std::string_view, 2>{"1", "2"}).text,
            "{1} {b} 2}");
}

TEST(TextPattern, ErrorsSayWhatIsAllowedAndWhatIsWrong) {
  EXPECT_THAT(Error(""), StartsWith("a text with {a} and {b} once each, and {{ and }} for braces; "));
  EXPECT_THAT(Error("{a}"), HasSubstr("this has no {b}"));
  EXPECT_THAT(Error("{b}"), HasSubstr("this has no {a}"));
  EXPECT_THAT(Error("{a} {b} {a}"), HasSubstr("this has {a} twice"));
  EXPECT_THAT(Error("{a} {b} {c}"), HasSubstr("this has {c}"));
  EXPECT_THAT(Error("{a} {b} {}"), HasSubstr("this has {}"));
  EXPECT_THAT(Error("{a} {b} { a}"), HasSubstr("this has { a}"));
  EXPECT_THAT(Error("{a} {b"), HasSubstr("this has a single { at byte 4"));
  EXPECT_THAT(Error("{a} {b} }"), HasSubstr("this has a single } at byte 8"));
  EXPECT_THAT(Error("{a}}{b}"), HasSubstr("this has a single } at byte 3"));
}

TEST(TextPattern, DividesWhereSomethingStandsBetweenTheNames) {
  EXPECT_TRUE(TextPattern::Parse("{a} {b}", kNames)->divides());
  EXPECT_FALSE(TextPattern::Parse("x{a}{b}x", kNames)->divides());
  EXPECT_TRUE(TextPattern().divides());
}

TEST(TextPattern, MatchIsTheOpposite) {
  const TextPattern pattern = *TextPattern::Parse("q: {b}, a: {a}.", kNames);
  EXPECT_THAT(*pattern.Match("q: B?, a: A."), ElementsAre("A", "B?"));
  EXPECT_THAT(*pattern.Match("q: , a: ."), ElementsAre("", ""));
  EXPECT_THAT(*pattern.Match("q: 1, a: 2, a: 3.."), ElementsAre("2, a: 3.", "1"));
  for (const char* text : {"", "q: B, a: A", "q B, a: A.", " q: B, a: A.", "q: B, A.", "q: B, a:.", "q: , a: "}) {
    EXPECT_EQ(pattern.Match(text), std::nullopt) << text;
  }
  const TextPattern open = *TextPattern::Parse("{a} <sep> {b}", kNames);
  EXPECT_THAT(*open.Match("one <sep> two <sep> three"), ElementsAre("one", "two <sep> three"));
  EXPECT_TRUE(TextPattern().Match("").has_value());
  EXPECT_FALSE(TextPattern().Match("x").has_value());
}

}  // namespace
}  // namespace elserve
