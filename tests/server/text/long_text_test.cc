// Long texts, which are taken in parts: what that must not show in, and what it saves.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/text/tokenizer.h"
#include "tests/server/text/tokenizer_folder.h"

namespace elserve {
namespace {

// Where parts are cut, and what is known of a text before it is encoded, leaves no trace in the tokens: of byte-level
// BPE with the tokens a, b, ab, a space and a line feed.
class LongTextPartsTest : public TokenizerFolderTest {
 protected:
  using Ids = std::vector<int32_t>;

  std::unique_ptr<Tokenizer> Load(const Json& added) {
    Json json = GoodTokenizer();
    json["model"]["vocab"]["\u0120"] = 5;
    json["model"]["vocab"]["\u010A"] = 6;
    json["added_tokens"] = Json::array({added});
    Write("tokenizer.json", json);
    Write("tokenizer_config.json", GoodConfig());
    return TokenizerFolderTest::Load();
  }

  // The text is `part` so many times, and so are its tokens.
  static void ExpectTokens(const Tokenizer& tokenizer, const std::string& part, const Ids& part_ids, int times) {
    std::string text;
    Ids ids;
    for (int i = 0; i < times; ++i) {
      text += part;
      ids.insert(ids.end(), part_ids.begin(), part_ids.end());
    }
    const auto encoding = tokenizer.Encode(text, {.add_special_tokens = false, .max_tokens = ids.size()});
    EXPECT_FALSE(encoding->too_long);
    EXPECT_TRUE(encoding->ids == ids);
    EXPECT_TRUE(tokenizer.Encode(text, {.add_special_tokens = false, .max_tokens = ids.size() - 1})->too_long);
  }
};

TEST_F(LongTextPartsTest, LongWordsThatJustFitAreTaken) {
  Ids ids(60001, 2);
  ids.back() = 5;
  ExpectTokens(*Load({{"id", 0}, {"content", "<s>"}}), std::string(60000, 'a') + " ", ids, 40);
}

// Though a text may be cut before a space.
TEST_F(LongTextPartsTest, ANormalizedTokenTakesTheSpaceBehindIt) {
  ExpectTokens(*Load({{"id", 3}, {"content", "b"}, {"rstrip", true}}), "ab ", {2, 3}, 70000);
}

TEST_F(LongTextPartsTest, SpacesThatATokenTakesAreNoTokens) {
  ExpectTokens(*Load({{"id", 3}, {"content", "b"}, {"rstrip", true}}), "ab" + std::string(1000, ' '), {2, 3}, 200);
}

// None of it is left before the space that a part begins with.
TEST_F(LongTextPartsTest, ANormalizedTokenTakesAllWhiteSpaceBeforeIt) {
  ExpectTokens(*Load({{"id", 3}, {"content", "b"}, {"lstrip", true}}), "a\n b", {2, 3}, 70000);
}

// A part would end in them, but for the token that takes them.
TEST_F(LongTextPartsTest, SpacesAreNotCutOffTheirToken) {
  Ids ids(65400, 2);
  ids.push_back(3);
  const Json token = {{"id", 3}, {"content", "b"}, {"special", true}, {"normalized", false}, {"lstrip", true}};
  ExpectTokens(*Load(token), std::string(65400, 'a') + std::string(300, ' ') + "b", ids, 3);
}

TEST_F(LongTextPartsTest, AnAddedTokenIsLongerThanThoseOfTheModel) {
  ExpectTokens(*Load({{"id", 7}, {"content", std::string(100, 'a')}}), std::string(100, 'a'), {7}, 2000);
}

}  // namespace
}  // namespace elserve
