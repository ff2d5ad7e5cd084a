// What ConfigFile takes for each type, to the edges of its ranges.
#include "engine/model/checkpoint/config_file.h"

#include <string>
#include <vector>

#include "engine/decoding.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/model/checkpoint/written_checkpoint.h"

namespace elserve {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConfigFileTest : public testing::Test {
 protected:
  ConfigFile Read(const std::string& json) const {
    directory_.Write("config.json", json);
    absl::StatusOr<ConfigFile> file = ConfigFile::Read(directory_.path() + "/config.json");
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  TestDirectory directory_;
};

TEST_F(ConfigFileTest, IntegersReachBothEndsOfTheirRange) {
  const ConfigFile file = Read(R"({"low": 3, "high": 9, "below": 2, "above": 10, "least": -9223372036854775808,
                                   "most": 9223372036854775807})");
  EXPECT_EQ(*file.Integer("low", 5, 3, 9), 3);
  EXPECT_EQ(*file.Integer("high", 5, 3, 9), 9);
  EXPECT_EQ(*file.Integer("absent", 5, 3, 9), 5);
  EXPECT_THAT(file.Integer("below", 5, 3, 9).status().message(),
              HasSubstr("below is 2; expected a whole number from 3"));
  EXPECT_THAT(file.Integer("above", 5, 3, 9).status().message(), HasSubstr("above is 10"));
  EXPECT_EQ(*file.Integer("least", 0, INT64_MIN, INT64_MAX), INT64_MIN);
  EXPECT_EQ(*file.Integer("most", 0, INT64_MIN, INT64_MAX), INT64_MAX);
}

TEST_F(ConfigFileTest, PresentAndNullAreNotTheSame) {
  const ConfigFile file = Read(R"({"null": null, "false": false})");
  EXPECT_FALSE(file.Has("null"));
  EXPECT_TRUE(file.Has("false"));
  EXPECT_FALSE(file.Has("absent"));
  EXPECT_FALSE(*file.Boolean("false", true));
  EXPECT_TRUE(*file.Boolean("absent", true));
  EXPECT_FALSE(file.Boolean("null", true).ok());
}

// A default that lies outside of a small vocabulary is none.
TEST_F(ConfigFileTest, TokenIdsAreInsideTheVocabulary) {
  const ConfigFile file = Read(R"({"zero": 0, "last": 9, "beyond": 10, "null": null, "list": [0, 9]})");
  EXPECT_EQ(*file.TokenId("zero", 5, 10), 0);
  EXPECT_EQ(*file.TokenId("last", 5, 10), 9);
  EXPECT_FALSE(file.TokenId("beyond", 5, 10).ok());
  EXPECT_EQ(*file.TokenId("null", 5, 10), -1);
  EXPECT_EQ(*file.TokenId("absent", 9, 10), 9);
  EXPECT_EQ(*file.TokenId("absent", 10, 10), -1);
  EXPECT_THAT(*file.TokenIds("absent", {8, 9, 10, 11}, 10), ElementsAre(8, 9));
  EXPECT_THAT(*file.TokenIds("zero", {5}, 10), ElementsAre(0));
  EXPECT_THAT(*file.TokenIds("list", {5}, 10), ElementsAre(0, 9));
  EXPECT_THAT(*file.TokenIds("null", {5}, 10), IsEmpty());
}

TEST_F(ConfigFileTest, ListsOfTokenIdsHaveAMostLength) {
  std::string ids = "0";
  for (int i = 1; i < kMaxEosIds; ++i) ids += ", " + std::to_string(i);
  EXPECT_THAT(*Read("{\"ids\": [" + ids + "]}").TokenIds("ids", {}, 100), SizeIs(kMaxEosIds));
  EXPECT_FALSE(Read("{\"ids\": [" + ids + ", 99]}").TokenIds("ids", {}, 100).ok());
}

TEST_F(ConfigFileTest, SixteenMebibytesAreRead) {
  std::string json = "{\"a\": 1}";
  json.resize(16 << 20, ' ');
  EXPECT_EQ(*Read(json).Integer("a", 0, 0, 9), 1);
}

}  // namespace
}  // namespace elserve
