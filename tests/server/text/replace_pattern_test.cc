#include "server/text/replace_pattern.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

ReplacePattern Regex(std::string_view pattern) {
  auto made = ReplacePattern::Regex(pattern);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : *ReplacePattern::Literal("x");
}

// The matches of a text, as lengths at their places: ".2..1".
std::string Matches(const ReplacePattern& pattern, std::string_view text) {
  std::string marks(text.size(), '.');
  for (size_t at = pattern.NextCandidate(text, 0); at < text.size(); at = pattern.NextCandidate(text, at)) {
    const size_t end = pattern.MatchEnd(text, at);
    if (end > at) marks[at] = static_cast<char>('0' + (end - at));
    at = end > at ? end : at + 1;
  }
  return marks;
}

TEST(ReplacePatternTest, FindsLiterals) {
  EXPECT_EQ(Matches(*ReplacePattern::Literal("aa"), "aaa b aa"), "2.....2.");
  EXPECT_EQ(Matches(*ReplacePattern::Literal("{2,}"), "a{2,}"), ".4...");
  EXPECT_EQ(Matches(Regex("ab"), "aabab"), ".2.2.");
  EXPECT_EQ(Matches(Regex("\\."), "a.b"), ".1.");
}

TEST(ReplacePatternTest, FindsRepetitions) {
  EXPECT_EQ(Matches(Regex(" {2,}"), "a b  c   "), "...2..3..");
  EXPECT_EQ(Matches(Regex("x+"), "axxbx"), ".2..1");
  EXPECT_EQ(Matches(Regex("\\s+"), "a \t\u3000b"), ".5.....");
}

TEST(ReplacePatternTest, TheFirstAlternativeThatMatchesCounts) {
  const ReplacePattern pattern = Regex("\\s{2,}|[\\n\\r\\t]");
  EXPECT_EQ(Matches(pattern, "a b\nc \nd\t"), "...1.2..1");
  EXPECT_EQ(Matches(Regex("ab|a"), "aab"), "12.");
  EXPECT_TRUE(pattern.Mentions(U' '));
  EXPECT_TRUE(pattern.Mentions(U'\t'));
  EXPECT_TRUE(pattern.Mentions(0x3000));
  EXPECT_FALSE(pattern.Mentions(U'n'));
}

TEST(ReplacePatternTest, OtherPatternsAreRefused) {
  for (const char* const pattern :
       {"a*",     "a?",    ".",     "^a",        "a$",     "(a)", "[a-z]",       "[^a]",   "[]",    "[",   "a{2}",
        "a{2,3}", "a{0,}", "a{,2}", "a{99999,}", "a{2,}?", "a++", "a+b",         "ab+",    "[ab]c", "\\d", "\\p{L}",
        "\\",     "|",     "a|",    "|a",        "{2,}",   "+",   "[[:alpha:]]", "[a&&b]", "\\x41", "a\\s"}) {
    EXPECT_FALSE(ReplacePattern::Regex(pattern).ok()) << pattern;
  }
  EXPECT_THAT(std::string(ReplacePattern::Regex("a*").status().message()), HasSubstr("\"a*\" is not supported"));
  EXPECT_FALSE(ReplacePattern::Literal("").ok());
  EXPECT_FALSE(ReplacePattern::Literal("\xFF").ok());
  EXPECT_FALSE(ReplacePattern::Literal(std::string(257, 'x')).ok());
}

}  // namespace
}  // namespace elserve
