// Which tokens are special, by what each of the files says of them.
#include <filesystem>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/text/tokenizer_folder.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;
using Json = nlohmann::json;

class SpecialTokensTest : public TokenizerFolderTest {};

TEST_F(SpecialTokensTest, AddedTokensDecoderStandsAlone) {
  WriteVocabForm();
  Write("added_tokens.json", Json{{"other", 8}});
  Write("tokenizer_config.json",
        Json{{"added_tokens_decoder",
              {{"8", {{"content", "plain"}, {"normalized", true}}}, {"9", {{"content", "sp"}, {"special", true}}}}},
             {"model_max_length", 77}});
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->TokenId("plain"), 8);
  EXPECT_FALSE(tokenizer->is_special(8));
  EXPECT_TRUE(tokenizer->is_special(9));
  EXPECT_EQ(tokenizer->TokenId("other"), std::nullopt);
  EXPECT_EQ(tokenizer->model_max_length(), 77);
}

// "special" says what decoding leaves out. A token that the configuration names is special whatever its flag says.
TEST_F(SpecialTokensTest, SpecialTokensOfTokenizerJson) {
  Json json = GoodTokenizer();
  json["added_tokens"] = {{{"id", 0}, {"content", "<s>"}, {"special", true}},
                          {{"id", 3}, {"content", "b"}, {"special", false}},
                          {{"id", 5}, {"content", "new"}}};
  Write("tokenizer.json", json);
  Json config = GoodConfig();
  Write("tokenizer_config.json", config);
  auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_TRUE(tokenizer->is_special(0));
  for (const int32_t id : {1, 2, 3, 4, 5}) EXPECT_FALSE(tokenizer->is_special(id)) << id;
  EXPECT_EQ(tokenizer->Decode(Ids{2, 0, 3, 5}, true), "abnew");
  EXPECT_EQ(tokenizer->Decode(Ids{2, 0, 3, 5}, false), "a<s>bnew");
  const Json object = {{"__type", "AddedToken"}, {"content", "b"}, {"special", false}};
  for (const auto& [key, value] : std::vector<std::pair<const char*, Json>>{
           {"pad_token", "b"}, {"pad_token", object}, {"own_token", "b"}, {"own_token", object}}) {
    config = GoodConfig();
    config[key] = value;
    Write("tokenizer_config.json", config);
    tokenizer = Load();
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_TRUE(tokenizer->is_special(3)) << key << " " << value;
    EXPECT_TRUE(tokenizer->is_special(0));
    EXPECT_FALSE(tokenizer->is_special(5));
  }
}

// Tokens that are not normalized are looked for first, in the whole text: "b" leaves nothing of the longer "ab".
TEST_F(SpecialTokensTest, NamedTokensAreLookedForBeforeNormalizedOnes) {
  Json json = GoodTokenizer();
  const Json plain = {{"id", 4}, {"content", "ab"}};
  const auto encode = [&](const Json& added, const Json& config) {
    json["added_tokens"] = added;
    Write("tokenizer.json", json);
    Write("tokenizer_config.json", config);
    const auto tokenizer = Load();
    return tokenizer == nullptr ? Ids{} : tokenizer->Encode("ab", {.add_special_tokens = false})->ids;
  };
  const Json good = GoodConfig();
  EXPECT_EQ(encode(Json::array({plain}), good), (Ids{4}));
  EXPECT_EQ(encode(Json::array({plain, {{"id", 3}, {"content", "b"}}}), good), (Ids{4}));
  EXPECT_EQ(encode(Json::array({plain, {{"id", 3}, {"content", "b"}, {"special", true}}}), good), (Ids{2, 3}));
  EXPECT_EQ(encode(Json::array({plain, {{"id", 3}, {"content", "b"}, {"special", true}, {"normalized", true}}}), good),
            (Ids{4}));
  Json named = good;
  named["pad_token"] = "b";
  EXPECT_EQ(encode(Json::array({plain}), named), (Ids{2, 3}));
  named["pad_token"] = {{"__type", "AddedToken"}, {"content", "b"}, {"normalized", true}};
  EXPECT_EQ(encode(Json::array({plain}), named), (Ids{4}));
}

// The older form: special_tokens_map.json names what of added_tokens.json is special. All that it names is, and is not
// normalized where it does not say so.
TEST_F(SpecialTokensTest, SpecialTokensMapNamesSpecialTokens) {
  WriteVocabForm();
  Write("added_tokens.json", Json{{"ab", 4}, {"b", 3}});
  const auto load = [&](const Json& map) {
    Write("special_tokens_map.json", map);
    return Load();
  };
  const auto encode = [](const Tokenizer& tokenizer) {
    return tokenizer.Encode("ab", {.add_special_tokens = false})->ids;
  };
  auto tokenizer = load(Json::object());
  EXPECT_FALSE(tokenizer->is_special(3));
  EXPECT_EQ(encode(*tokenizer), (Ids{4}));
  for (const Json& value : {Json("b"), Json{{"content", "b"}}, Json{{"content", "b"}, {"special", false}}}) {
    tokenizer = load(Json{{"pad_token", value}});
    EXPECT_TRUE(tokenizer->is_special(3)) << value;
    EXPECT_FALSE(tokenizer->is_special(4));
    EXPECT_EQ(encode(*tokenizer), (Ids{2, 3})) << value;
  }
  // Without added_tokens.json the map's own flag counts.
  Write("added_tokens.json", Json{{"ab", 4}});
  EXPECT_EQ(encode(*load(Json{{"own_token", {{"content", "b"}}}})), (Ids{2, 3}));
  EXPECT_EQ(encode(*load(Json{{"own_token", {{"content", "b"}, {"normalized", true}}}})), (Ids{4}));
}

// As transformers: the map's additional tokens become special too late for added_tokens.json, the configuration's do
// not.
TEST_F(SpecialTokensTest, AdditionalTokensOfTheMapComeAfterAddedTokens) {
  WriteVocabForm();
  Write("added_tokens.json", Json{{"b", 3}});
  Write("special_tokens_map.json", Json{{"additional_special_tokens", {"b", "a"}}});
  auto tokenizer = Load();
  EXPECT_FALSE(tokenizer->is_special(3));
  EXPECT_TRUE(tokenizer->is_special(2));
  Write("tokenizer_config.json", Json{{"additional_special_tokens", {"b"}}});
  tokenizer = Load();
  EXPECT_TRUE(tokenizer->is_special(3));
  EXPECT_FALSE(tokenizer->is_special(2)) << "the configuration's list stands instead of the map's";
}

// Objects are added tokens where the configuration says so ("__type"), and always in special_tokens_map.json's newer
// list, whose tokens are special whatever their flag says.
TEST_F(SpecialTokensTest, ListsOfTokensHoldObjectsInOnePlaceAlone) {
  const Json object = Json::array({{{"content", "b"}, {"special", false}}});
  for (const auto& [file, key, fine] : std::vector<std::tuple<const char*, const char*, bool>>{
           {"tokenizer_config.json", "extra_special_tokens", false},
           {"tokenizer_config.json", "additional_special_tokens", false},
           {"special_tokens_map.json", "additional_special_tokens", false},
           {"special_tokens_map.json", "extra_special_tokens", true}}) {
    WriteVocabForm();
    Write(file, Json{{key, object}});
    if (fine) {
      EXPECT_TRUE(Load()->is_special(3));
    } else {
      EXPECT_THAT(Error(), HasSubstr(absl::StrCat(file, ": ", key, "[0] must be a string or an added token")));
    }
    std::filesystem::remove(directory_ / file);
  }
  WriteVocabForm();
  Write("special_tokens_map.json", Json{{"extra_special_tokens", {{"own_token", {{"content", "b"}}}}}});
  EXPECT_THAT(Error(), HasSubstr("extra_special_tokens.own_token must be a string or an added token"));
}

TEST_F(SpecialTokensTest, TheLaterOfTwoTokensOfAModelsOwnNameCounts) {
  WriteVocabForm();
  Write("tokenizer_config.json", Json{{"own_token", "b"}, {"extra_special_tokens", {{"own_token", "a"}}}});
  const auto tokenizer = Load();
  EXPECT_TRUE(tokenizer->is_special(2));
  EXPECT_FALSE(tokenizer->is_special(3));
}

}  // namespace
}  // namespace elserve
