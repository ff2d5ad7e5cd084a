#include "server/text/word_splitter.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace elserve {
namespace {

std::vector<std::string> Words(const std::string& text) {
  WordSplitter splitter;
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size(); at += words.back().size()) {
    const size_t length = splitter.NextWord(text, at);
    if (length == 0) {
      ADD_FAILURE() << "no word at " << at;
      break;
    }
    words.push_back(text.substr(at, length));
  }
  return words;
}

using W = std::vector<std::string>;

TEST(WordSplitter, PatternsCompile) { EXPECT_TRUE(CheckUnicodePatterns().ok()); }

TEST(WordSplitter, CutsAsGpt2) {
  EXPECT_EQ(Words("Hello there  dear"), (W{"Hello", " there", " ", " dear"}));
  EXPECT_EQ(Words("it's 'llama 'S x're"), (W{"it", "'s", " '", "llama", " '", "S", " x", "'re"}));
  EXPECT_EQ(Words("a1b22 33.."), (W{"a", "1", "b", "22", " 33", ".."}));
  EXPECT_EQ(Words("a \n b"), (W{"a", " \n", " b"}));
  EXPECT_EQ(Words("a\n\nb"), (W{"a", "\n", "\n", "b"}));
  EXPECT_EQ(Words("end   "), (W{"end", "   "}));
  EXPECT_EQ(Words("x²½Ⅷ"), (W{"x", "²½Ⅷ"}));
}

TEST(WordSplitter, WhiteSpaceIsUnicodes) {
  EXPECT_EQ(Words("a\u00A0\u3000b"), (W{"a", "\u00A0", "\u3000", "b"}));
  EXPECT_EQ(Words("a\u0085b\u2028"), (W{"a", "\u0085", "b", "\u2028"}));
  // No white space: Mongolian vowel separator, zero width space, byte order mark, unit separator.
  for (const char* other : {"\u180E", "\u200B", "\uFEFF", "\x1F"}) {
    EXPECT_EQ(Words(std::string("!") + other + "?").size(), 1u) << other;
  }
  EXPECT_TRUE(IsWhiteSpace(0x205F));
  EXPECT_FALSE(IsWhiteSpace(0x180E));
}

TEST(WordSplitter, KnowsCharactersOfUnicode15And16) {
  EXPECT_EQ(Words("a\U00010D4A\U0002EBF0").size(), 1u);
  EXPECT_EQ(Words("1\U00010D40\U0001CCF0").size(), 1u);
}

TEST(WordSplitter, MarksJoinersAndEnclosedLettersAreWordCharacters) {
  for (const char32_t c : {U'a', U'é', U'_', U'9', U'日', U'\u0301', U'\u200D', U'\u24D0', U'\u203F', U'Ⅷ'}) {
    EXPECT_TRUE(IsWordCharacter(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {U' ', U'-', U'!', U'½', U'²', U'\u200B', U'👍', U'\u0378'}) {
    EXPECT_FALSE(IsWordCharacter(c)) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace elserve
