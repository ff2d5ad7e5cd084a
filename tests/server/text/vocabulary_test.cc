#include "server/text/vocabulary.h"

#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using Entries = std::vector<std::pair<std::string, int32_t>>;

std::string Error(Entries entries) {
  const auto vocabulary = Vocabulary::Create(std::move(entries), "vocab.json");
  EXPECT_EQ(vocabulary.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(vocabulary.status().message());
}

TEST(VocabularyTest, FindsSpellingsAndIds) {
  const auto made = Vocabulary::Create({{"b", 5}, {"a long spelling, kept on the heap", 0}, {"", 2}}, "vocab.json");
  ASSERT_TRUE(made.ok()) << made.status();
  const Vocabulary& vocabulary = *made;
  EXPECT_EQ(vocabulary.size(), 3u);
  EXPECT_EQ(vocabulary.end_id(), 6);
  EXPECT_EQ(vocabulary.longest_spelling(), 33u);
  EXPECT_EQ(vocabulary.TokenId("b"), 5);
  EXPECT_EQ(vocabulary.TokenId(""), 2);
  EXPECT_EQ(vocabulary.TokenId("a"), std::nullopt);
  EXPECT_EQ(vocabulary.Spelling(0), "a long spelling, kept on the heap");
  EXPECT_EQ(vocabulary.Spelling(2), "");
  for (const int32_t id : {-1, 1, 6, 2147483647}) EXPECT_EQ(vocabulary.Spelling(id), std::nullopt);
}

TEST(VocabularyTest, StaysRightWhereItIsMoved) {
  auto made = Vocabulary::Create({{"x", 0}, {"y", 1}}, "vocab.json");
  ASSERT_TRUE(made.ok()) << made.status();
  const Vocabulary moved = *std::move(made);
  EXPECT_EQ(moved.TokenId("y"), 1);
  EXPECT_EQ(moved.Spelling(0), "x");
}

TEST(VocabularyTest, RefusesWhatIsAmbiguous) {
  EXPECT_THAT(Error({}), HasSubstr("vocab.json is empty"));
  EXPECT_THAT(Error({{"a", 0}, {"a", 1}}), HasSubstr("vocab.json has \"a\" twice"));
  EXPECT_THAT(Error({{"a", 7}, {"b", 7}}), HasSubstr("\"a\" and \"b\" have the same id 7"));
  EXPECT_THAT(Error({{"a", -1}}), HasSubstr("vocab.json[\"a\"] is -1: ids must be from 0 to 1048575"));
  EXPECT_THAT(Error({{"a", kMaxTokenId + 1}}), HasSubstr("is 1048576"));
}

}  // namespace
}  // namespace elserve
