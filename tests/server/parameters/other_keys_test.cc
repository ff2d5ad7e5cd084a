// Every key of transformers' GenerationConfig is a parameter, refused, or cannot change tokens.
#include "server/parameters/other_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "server/parameters/rules.h"

namespace elserve {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

// python3 -c "from transformers import GenerationConfig as G; print(*sorted(vars(G())), sep=chr(10))", of
// transformers 5.23, and those of 4.49 that are not there any more.
TEST(OtherKeysTest, KnowsEveryKeyOfGenerationConfig) {
  std::ifstream keys(ELSERVE_SOURCE_DIR "/tests/server/parameters/generation_config_keys.txt");
  int parameters = 0, refused = 0, idle = 0;
  for (std::string key; std::getline(keys, key);) {
    const json odd = json::parse(R"({"a value": "that no parameter has"})");
    const absl::Status status = CheckOtherKey(key, odd, /*checkpoint=*/false);
    if (FindRule(key) != nullptr) {
      ++parameters;
      EXPECT_TRUE(absl::IsNotFound(status)) << key << " is a parameter, and another key as well";
      continue;
    }
    EXPECT_FALSE(absl::IsNotFound(status)) << key;
    EXPECT_TRUE(CheckOtherKey(key, json(), /*checkpoint=*/false).ok()) << key;
    if (status.ok()) {
      ++idle;
    } else {
      ++refused;
      EXPECT_THAT(std::string(status.message()), HasSubstr(key + " is {"));
      EXPECT_THAT(std::string(status.message()), HasSubstr("does not honour"));
    }
  }
  EXPECT_GE(parameters, 35);
  EXPECT_GE(refused, 12);
  EXPECT_GE(idle, 20);
}

TEST(OtherKeysTest, NeutralValuesAreAccepted) {
  const auto good = [](const char* name, const char* value) {
    return CheckOtherKey(name, json::parse(value), /*checkpoint=*/false).ok();
  };
  EXPECT_TRUE(good("guidance_scale", "1"));
  EXPECT_TRUE(good("penalty_alpha", "0"));
  EXPECT_TRUE(good("use_cache", "true"));
  EXPECT_TRUE(good("output_scores", "true"));
  EXPECT_FALSE(good("use_cache", "false"));
  EXPECT_TRUE(CheckOtherKey("use_cache", false, /*checkpoint=*/true).ok());
  EXPECT_FALSE(CheckOtherKey("guidance_scale", 2, /*checkpoint=*/true).ok());
  EXPECT_TRUE(absl::IsNotFound(CheckOtherKey("num_beems", 4, false)));
}

}  // namespace
}  // namespace elserve
