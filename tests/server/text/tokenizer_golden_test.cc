// Ids and text must be what transformers answered: tests/golden/tokenizer/, made by
// tests/golden/make_tokenizer_cases.py.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/text/tokenizer.h"

namespace elserve {
namespace {

using Ids = std::vector<int32_t>;

const std::filesystem::path kSource = ELSERVE_SOURCE_DIR;
const std::filesystem::path kGolden = kSource / "tests/golden/tokenizer";

struct Case {
  const char* name;  // of the file of cases
  std::filesystem::path directory;
};

class TokenizerGoldenTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Load(GetParam().directory);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
    std::ifstream file(kGolden / (std::string(GetParam().name) + ".json"));
    golden_ = nlohmann::json::parse(file);
  }

  // The text of `ids` as a stream gives it, pushed in groups of `group`.
  std::string Stream(const Ids& ids, size_t group, bool skip_special_tokens) const {
    Detokenizer detokenizer = tokenizer_->NewDetokenizer(skip_special_tokens);
    std::string text;
    for (size_t i = 0; i < ids.size(); i += group) {
      text += detokenizer.Push(std::span(ids).subspan(i, std::min(group, ids.size() - i)));
    }
    return text + detokenizer.Finish();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  nlohmann::json golden_;
};

TEST_P(TokenizerGoldenTest, EncodesAsTransformers) {
  ASSERT_GE(golden_["texts"].size(), 150u);
  for (const auto& test : golden_["texts"]) {
    const auto text = test[0].get<std::string>();
    SCOPED_TRACE(test[0].dump());
    EXPECT_EQ(tokenizer_->Encode(text)->ids, test[1].get<Ids>());
    EXPECT_EQ(tokenizer_->Encode(text, {.add_special_tokens = false})->ids, test[2].get<Ids>());
  }
}

TEST_P(TokenizerGoldenTest, DecodesAsTransformers) {
  for (const auto& test : golden_["texts"]) {
    SCOPED_TRACE(test[0].dump());
    EXPECT_EQ(tokenizer_->Decode(test[1].get<Ids>(), true), test[3].get<std::string>());
    EXPECT_EQ(tokenizer_->Decode(test[1].get<Ids>(), false), test[4].get<std::string>());
  }
  ASSERT_GE(golden_["decodes"].size(), 50u);
  for (const auto& test : golden_["decodes"]) {
    SCOPED_TRACE(test[0].dump());
    EXPECT_EQ(tokenizer_->Decode(test[0].get<Ids>(), true), test[1].get<std::string>());
    EXPECT_EQ(tokenizer_->Decode(test[0].get<Ids>(), false), test[2].get<std::string>());
  }
}

TEST_P(TokenizerGoldenTest, StreamsTheSameText) {
  for (const size_t group : {1, 2, 3, 1000}) {
    for (const auto& test : golden_["texts"]) {
      EXPECT_EQ(Stream(test[1].get<Ids>(), group, true), test[3].get<std::string>());
      EXPECT_EQ(Stream(test[1].get<Ids>(), group, false), test[4].get<std::string>());
    }
    for (const auto& test : golden_["decodes"]) {
      EXPECT_EQ(Stream(test[0].get<Ids>(), group, true), test[1].get<std::string>());
      EXPECT_EQ(Stream(test[0].get<Ids>(), group, false), test[2].get<std::string>());
    }
  }
}

TEST_P(TokenizerGoldenTest, KnowsItsVocabulary) {
  EXPECT_EQ(tokenizer_->vocab_size(), golden_["length"].get<int32_t>());
  const auto special = golden_["special"].get<std::set<int32_t>>();
  EXPECT_FALSE(special.empty());
  for (int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    const std::optional<std::string_view> text = tokenizer_->TokenText(id);
    ASSERT_TRUE(text) << id;
    EXPECT_EQ(tokenizer_->TokenId(*text), id);
    EXPECT_EQ(tokenizer_->is_special(id), special.contains(id)) << *text;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, TokenizerGoldenTest,
                         testing::Values(Case{"debian-synopsis", kSource / "models/debian-synopsis"},
                                         Case{"odd-json", kGolden / "odd-json"},
                                         Case{"odd-vocab", kGolden / "odd-vocab"}),
                         [](const testing::TestParamInfo<Case>& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace elserve
