#include "server/text/utf8.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

TEST(Utf8, EveryCodePointIsReadBack) {
  for (uint32_t code_point = 0; code_point < 0x110000; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(code_point, text);
    const Utf8Character character = ReadUtf8(text, 0);
    ASSERT_TRUE(character.valid) << code_point;
    ASSERT_EQ(character.code_point, code_point);
    ASSERT_EQ(character.length, text.size());
    ASSERT_FALSE(FirstInvalidUtf8(text)) << code_point;
  }
}

TEST(Utf8, NamesTheFirstBadByte) {
  const struct {
    std::string text;
    size_t bad;
  } cases[] = {{"\x80", 0},
               {"abc\xFF", 3},
               {"abcdefgh\xC3", 8},
               {"abcdefghijk\xC3(", 11},
               {"\xC0\xAF", 0},
               {"\xC1\xBF", 0},
               {"\xE0\x9F\xBF", 0},
               {"\xED\xA0\x80", 0},
               {"é\xED\xBF\xBF", 2},
               {"\xF0\x8F\xBF\xBF", 0},
               {"\xF4\x90\x80\x80", 0},
               {"\xF5\x80\x80\x80", 0},
               {"日本\xE6\x97", 6},
               {std::string("a\0\xFE", 3), 2}};
  for (const auto& test : cases) EXPECT_EQ(FirstInvalidUtf8(test.text), test.bad) << test.text;
}

TEST(Utf8, TakesWhatIsValid) {
  for (const std::string& text : {std::string(), std::string("abcdefghijklmnopq"), std::string("a\0b", 3),
                                  std::string("\xED\x9F\xBF\xEE\x80\x80"), std::string("\xF4\x8F\xBF\xBF")}) {
    EXPECT_FALSE(FirstInvalidUtf8(text)) << text;
  }
}

TEST(Utf8, CheckNamesFieldAndOffset) {
  EXPECT_TRUE(CheckUtf8("é", "document").ok());
  const absl::Status status = CheckUtf8("ab\xFF", "document");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("document is not valid UTF-8"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("byte offset 2 (0xFF)"));
}

TEST(Utf8, CutsBadBytesAsUnicodeRecommends) {
  // Unicode 15, table 3-8: 61 F1 80 80 E1 80 C2 62 80 63 80 BF 64.
  const std::string text = "a\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64";
  std::vector<size_t> lengths;
  for (size_t at = 0; at < text.size(); at += lengths.back()) lengths.push_back(ReadUtf8(text, at).length);
  EXPECT_EQ(lengths, (std::vector<size_t>{1, 3, 2, 1, 1, 1, 1, 1, 1, 1}));
}

TEST(Utf8, OnlyTheEndOfTheTextIsIncomplete) {
  EXPECT_TRUE(ReadUtf8("\xE6\x97", 0).incomplete);
  EXPECT_TRUE(ReadUtf8("\xF0", 0).incomplete);
  EXPECT_FALSE(ReadUtf8("\xE6\x97z", 0).incomplete);
  EXPECT_FALSE(ReadUtf8("\xED\xA0", 0).incomplete);  // a surrogate: no third byte could help
  EXPECT_FALSE(ReadUtf8("\xFF", 0).incomplete);
}

TEST(Utf8, FindsBoundaries) {
  const std::string text = "aé日👍";
  std::vector<size_t> boundaries;
  for (size_t i = 0; i < text.size() + 3; ++i) {
    if (IsCharacterBoundary(text, i)) boundaries.push_back(i);
  }
  EXPECT_EQ(boundaries, (std::vector<size_t>{0, 1, 3, 6, 10}));
  EXPECT_TRUE(IsCharacterBoundary("", 0));
}

}  // namespace
}  // namespace elserve
