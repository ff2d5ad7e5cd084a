// Ids, spans and text must be what the references answered: tests/golden/tokenizer/, made by
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

  // What a text's ids decode to; where the file has null, it is what stands before.
  static std::string Decoded(const nlohmann::json& test, bool skip_special_tokens) {
    const std::string skipped = test[test[3].is_null() ? 0 : 3].get<std::string>();
    return skip_special_tokens || test[4].is_null() ? skipped : test[4].get<std::string>();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  nlohmann::json golden_;
};

TEST_P(TokenizerGoldenTest, EncodesAsTheReference) {
  ASSERT_GE(golden_["texts"].size(), 300u);
  for (const auto& test : golden_["texts"]) {
    const auto text = test[0].get<std::string>();
    SCOPED_TRACE(test[0].dump());
    EXPECT_EQ(tokenizer_->Encode(text)->ids, test[1].get<Ids>());
    Ids bare(test[1].begin() + golden_["before"].get<int>(), test[1].end() - golden_["after"].get<int>());
    if (!test[2].is_null()) bare = test[2].get<Ids>();
    EXPECT_EQ(tokenizer_->Encode(text, {.add_special_tokens = false})->ids, bare);
  }
}

// What is not listed is as a source.
TEST_P(TokenizerGoldenTest, EncodesAnswers) {
  const auto& answers = golden_["answers"];
  size_t others = 0;
  for (size_t i = 0; i < golden_["texts"].size(); ++i) {
    const auto text = golden_["texts"][i][0].get<std::string>();
    SCOPED_TRACE(golden_["texts"][i][0].dump());
    const Ids source = tokenizer_->Encode(text, {.add_special_tokens = false})->ids;
    const Ids expected = answers.empty() ? source : answers.at(i).get<Ids>();
    EXPECT_EQ(tokenizer_->Encode(text, {.add_special_tokens = false, .is_answer = true})->ids, expected);
    others += expected != source;
  }
  EXPECT_EQ(others > 100, !answers.empty());
}

TEST_P(TokenizerGoldenTest, TellsWhereTokensComeFrom) {
  for (const auto& test : golden_["texts"]) {
    const auto text = test[0].get<std::string>();
    SCOPED_TRACE(test[0].dump());
    const Encoding encoding = *tokenizer_->Encode(text, {.spans = true});
    EXPECT_EQ(encoding.ids, test[1].get<Ids>());
    ASSERT_EQ(encoding.spans.size(), encoding.ids.size());
    if (test[5].is_null()) continue;
    std::vector<uint32_t> spans;
    for (const TextSpan& span : encoding.spans) spans.insert(spans.end(), {span.begin, span.end});
    EXPECT_EQ(spans, test[5].get<std::vector<uint32_t>>());
  }
}

// What encoding makes of all but the first tokens is no less than the truth, and what it keeps is the truth.
TEST_P(TokenizerGoldenTest, StopsEarly) {
  const size_t frame = tokenizer_->FrameOf("", "")->size();
  for (const auto& test : golden_["texts"]) {
    const auto text = test[0].get<std::string>();
    SCOPED_TRACE(test[0].dump());
    const Ids all = test[1].get<Ids>();
    for (const size_t limit : {frame, frame + 1, frame + 5, all.size() - 1, all.size(), all.size() + 1}) {
      if (limit < frame) continue;
      EXPECT_EQ(tokenizer_->Encode(text, {.max_tokens = limit})->too_long, all.size() > limit) << limit;
      for (const bool spans : {false, true}) {
        const Encoding cut = *tokenizer_->Encode(text, {.spans = spans, .max_tokens = limit, .truncate = true});
        EXPECT_EQ(cut.too_long, all.size() > limit) << limit;
        const Frame around = *tokenizer_->FrameOf("", "");
        Ids expected(all.begin(), all.begin() + static_cast<ptrdiff_t>(std::min(all.size(), limit)));
        std::copy_backward(around.after.begin(), around.after.end(), expected.end());
        EXPECT_EQ(cut.ids, expected) << limit;
      }
    }
  }
}

// 90 KB of letters, as words or as one.
std::string LongText(bool words) {
  uint32_t state = 5;
  const auto next = [&](uint32_t below) { return (state = state * 1664525 + 1013904223, (state >> 8) % below); };
  const std::vector<std::string> letters = {"a", "e",       "i",  "n",      "r", "s",  "t",    "1",
                                            "é", "e\u0301", "日", "\u00AD", "ﬁ", "'s", "over", "☃"};
  std::string text;
  while (text.size() < 90000) {
    for (uint32_t i = 1 + next(8); i > 0; --i) text += letters[next(static_cast<uint32_t>(letters.size()))];
    if (words) text += next(9) == 0 ? "  " : " ";
  }
  return text;
}

// Long texts are taken in parts, but for those who ask for spans.
TEST_P(TokenizerGoldenTest, CutsLongTextsWithoutATrace) {
  const std::string words = LongText(true);
  for (const std::string& text : {words + "<s> " + words, ">>" + words + "<<a", LongText(false)}) {
    SCOPED_TRACE(text.substr(0, 20));
    const Ids all = tokenizer_->Encode(text)->ids;
    EXPECT_TRUE(all == tokenizer_->Encode(text, {.spans = true})->ids);
    const Frame frame = *tokenizer_->FrameOf("", "");
    for (const size_t limit : {std::min<size_t>(1000, all.size()), all.size() - 1, all.size()}) {
      EXPECT_EQ(tokenizer_->Encode(text, {.max_tokens = limit})->too_long, all.size() > limit) << limit;
      Ids expected(all.begin(), all.begin() + static_cast<ptrdiff_t>(limit));
      std::copy_backward(frame.after.begin(), frame.after.end(), expected.end());
      EXPECT_TRUE(tokenizer_->Encode(text, {.max_tokens = limit, .truncate = true})->ids == expected) << limit;
    }
  }
}

TEST_P(TokenizerGoldenTest, DecodesAsTheReference) {
  for (const auto& test : golden_["texts"]) {
    SCOPED_TRACE(test[0].dump());
    EXPECT_EQ(tokenizer_->Decode(test[1].get<Ids>(), true), Decoded(test, true));
    EXPECT_EQ(tokenizer_->Decode(test[1].get<Ids>(), false), Decoded(test, false));
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
      EXPECT_EQ(Stream(test[1].get<Ids>(), group, true), Decoded(test, true));
      EXPECT_EQ(Stream(test[1].get<Ids>(), group, false), Decoded(test, false));
    }
    for (const auto& test : golden_["decodes"]) {
      EXPECT_EQ(Stream(test[0].get<Ids>(), group, true), test[1].get<std::string>());
      EXPECT_EQ(Stream(test[0].get<Ids>(), group, false), test[2].get<std::string>());
    }
  }
}

// Nothing that a stream gave out is taken back: what came so far begins the text, whatever the tokens are.
TEST_P(TokenizerGoldenTest, StreamsRandomIdsAsTheyDecode) {
  uint32_t state = 7;
  const auto next = [&](uint32_t below) { return (state = state * 1664525 + 1013904223, (state >> 8) % below); };
  for (int round = 0; round < 300; ++round) {
    const bool skip = round % 2 == 0;
    Ids ids(1 + next(30));
    for (int32_t& id : ids) id = static_cast<int32_t>(next(static_cast<uint32_t>(tokenizer_->vocab_size()) + 3));
    const std::string whole = tokenizer_->Decode(ids, skip);
    Detokenizer detokenizer = tokenizer_->NewDetokenizer(skip);
    std::string text;
    for (const int32_t id : ids) {
      text += detokenizer.Push(id);
      ASSERT_EQ(whole.rfind(text, 0), 0u);
    }
    EXPECT_EQ(text + detokenizer.Finish(), whole);
  }
}

TEST_P(TokenizerGoldenTest, FramesTextsOfEachLanguage) {
  std::set<std::string> codes;
  for (const auto& test : golden_["languages"]) {
    SCOPED_TRACE(test.dump());
    const auto source = test[0].get<std::string>();
    const auto target = test[1].get<std::string>();
    codes.insert(source + target);
    const auto encoding =
        tokenizer_->Encode(test[2].get<std::string>(), {.source_language = source, .target_language = target});
    ASSERT_TRUE(encoding.ok()) << encoding.status();
    EXPECT_EQ(encoding->ids, test[3].get<Ids>());
  }
  std::set<std::string> known;
  for (const Language& language : tokenizer_->languages()) known.insert(language.code);
  EXPECT_EQ(known, codes);
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
                                         Case{"odd-vocab", kGolden / "odd-vocab"}, Case{"t5", kGolden / "t5"},
                                         Case{"t5-json", kGolden / "t5-json"}, Case{"pegasus", kGolden / "pegasus"},
                                         Case{"pegasus", kGolden / "pegasus-json"}, Case{"mbart", kGolden / "mbart"},
                                         Case{"mbart", kGolden / "mbart-json"}, Case{"mbart50", kGolden / "mbart50"},
                                         Case{"marian", kGolden / "marian"}, Case{"marian-bpe", kGolden / "marian-bpe"},
                                         Case{"gpt2", kGolden / "gpt2"}, Case{"gpt2-json", kGolden / "gpt2-json"},
                                         Case{"bpe-json", kGolden / "bpe-json"}),
                         [](const testing::TestParamInfo<Case>& info) {
                           std::string name = info.param.directory.filename().string();
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace elserve
