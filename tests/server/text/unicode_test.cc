// The golden cases of normalizer_test.cc compare most of this with the tokenizers library, and a comparison over all
// code points was made when it was written; here are the rules.
#include "server/text/unicode.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;

std::string Text(const std::vector<CharacterChange>& changes) {
  std::string text;
  for (const CharacterChange& change : changes) AppendUtf8(change.character, text);
  return text;
}

// The clusters of a text, with bars between.
std::string Clusters(std::string_view text) {
  std::string marked;
  for (size_t at = 0; at < text.size();) {
    const size_t end = GraphemeEnd(text, at);
    marked.append(at == 0 ? "" : "|").append(text.substr(at, end - at));
    at = end;
  }
  return marked;
}

TEST(UnicodeTest, NormalForms) {
  EXPECT_EQ(Text(Normalized("e\u0301\uFB01", NormalForm::kNfc)), "é\uFB01");
  EXPECT_EQ(Text(Normalized("é\uFB01", NormalForm::kNfd)), "e\u0301\uFB01");
  EXPECT_EQ(Text(Normalized("e\u0301\uFB01", NormalForm::kNfkc)), "éfi");
  EXPECT_EQ(Text(Normalized("é\uFB01", NormalForm::kNfkd)), "e\u0301fi");
  EXPECT_EQ(Text(Normalized("\u1100\u1161\u11A8", NormalForm::kNfc)), "각");
  EXPECT_EQ(Text(Normalized("a\u0315\u0300\u05AE", NormalForm::kNfd)), "a\u05AE\u0300\u0315");
  // Newer than the tokenizers library's tables.
  EXPECT_EQ(Text(Normalized("\u32FF", NormalForm::kNfkc)), "\u32FF");
}

TEST(UnicodeTest, ChangesSayWhatIsNewAndWhatGoes) {
  EXPECT_THAT(Normalized("é", NormalForm::kNfd), ElementsAre(CharacterChange{U'e', 0}, CharacterChange{0x301, 1}));
  EXPECT_THAT(Normalized("e\u0301", NormalForm::kNfc), ElementsAre(CharacterChange{U'é', -1}));
  EXPECT_THAT(Normalized("\uFB01", NormalForm::kNfkc), ElementsAre(CharacterChange{U'f', 0}, CharacterChange{U'i', 1}));
}

TEST(UnicodeTest, MarksAreThoseOfUnicode9) {
  EXPECT_TRUE(IsMark(0x301));
  EXPECT_TRUE(IsMark(0x903));
  EXPECT_TRUE(IsMark(0x1CF2));
  EXPECT_FALSE(IsMark(0x111C9));
  EXPECT_FALSE(IsMark(0x1ABF));
  EXPECT_FALSE(IsMark(U'a'));
}

TEST(UnicodeTest, LowerCaseKnowsNothingAround) {
  std::vector<char32_t> lower;
  for (const char32_t character : {U'A', U'É', U'Σ', char32_t{0x130}, char32_t{0x10D50}, char32_t{0xA7DC}, U'ß'}) {
    AppendLowercase(character, lower);
  }
  EXPECT_THAT(lower, ElementsAre(U'a', U'é', U'σ', U'i', 0x307, 0x10D70, 0x19B, U'ß'));
}

TEST(UnicodeTest, GraphemeClusters) {
  EXPECT_EQ(Clusters("ae\u0301b"), "a|e\u0301|b");
  EXPECT_EQ(Clusters("\r\n\r\r\n\n"), "\r\n|\r|\r\n|\n");
  EXPECT_EQ(Clusters("a\u200Db\u0001\u0301"), "a\u200D|b|\u0001|\u0301");
  EXPECT_EQ(Clusters("\u1100\u1161\u11A8\u1100각\u11A8가\u11A8\u1161"),
            "\u1100\u1161\u11A8|\u1100각\u11A8|가\u11A8|\u1161");
  EXPECT_EQ(Clusters("\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7\U0001F1EA"),
            "\U0001F1E9\U0001F1EA|\U0001F1EB\U0001F1F7|\U0001F1EA");
  EXPECT_EQ(Clusters("\u00A9\u200D\u00A9a\u200D\u00A9\u00A9\u0301\u200D\u00A9"),
            "\u00A9\u200D\u00A9|a\u200D|\u00A9|\u00A9\u0301\u200D\u00A9");
  EXPECT_EQ(Clusters("\u0600a\u0600"), "\u0600a|\u0600");
  EXPECT_EQ(Clusters("Q\u0897Q\U00011A3AQ\U000113D1Q"), "Q\u0897|Q|\U00011A3A|Q|\U000113D1Q");
}

TEST(UnicodeTest, SeparableCharactersStayInComposedFormsAndAreClusters) {
  for (char32_t character = 1; character < 0x30000; ++character) {
    if (!IsSeparable(character)) continue;
    std::string text;
    AppendUtf8(character, text);
    EXPECT_EQ(Text(Normalized(text, NormalForm::kNfc)), text);
    EXPECT_EQ(Text(Normalized(text, NormalForm::kNfkc)), text);
    EXPECT_EQ(Clusters(text + text), text + "|" + text);
    EXPECT_EQ(Clusters("a" + text + "a"), "a|" + text + "|a");
    // Nothing that comes before joins with it, in any form.
    for (const char* const before : {"a", "\u304B", "\u0915", "\u1100", "가", "\u0438", "\u0627"}) {
      EXPECT_EQ(Text(Normalized(before + text, NormalForm::kNfkc)), Text(Normalized(before, NormalForm::kNfkc)) + text);
    }
  }
}

}  // namespace
}  // namespace elserve
