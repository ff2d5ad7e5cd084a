// What the families' files say beyond ids: languages, flags, and each way to be broken.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/text/tokenizer_folder.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using Ids = std::vector<int32_t>;
using Json = nlohmann::json;

class TokenizerFamiliesTest : public TokenizerFolderTest {};

TEST_F(TokenizerFamiliesTest, EachBreakNamesFileAndKey) {
  const struct {
    const char* folder;
    const char* file;
    const char* pointer;
    Json value;
    std::vector<std::string> message;
  } cases[] = {
      {"t5", "tokenizer_config.json", "/extra_ids", -1, {"tokenizer_config.json: extra_ids must be a whole number"}},
      {"t5", "tokenizer_config.json", "/extra_ids", 1 << 30, {"extra_ids", "0 to 100000"}},
      {"t5", "tokenizer_config.json", "/legacy", "no", {"tokenizer_config.json: legacy must be true or false"}},
      {"t5", "tokenizer_config.json", "/truncation_side", "middle", {"truncation_side is \"middle\": right and left"}},
      {"t5", "tokenizer_config.json", "/tokenizer_class", "ByT5Tokenizer", {"tokenizer_class \"ByT5Tokenizer\""}},
      {"t5", "added_tokens.json", "/<hl>", 7, {"added_tokens.json: [\"<hl>\"]", "the id 7"}},
      {"pegasus", "tokenizer_config.json", "/offset", "103", {"tokenizer_config.json: offset must be a whole number"}},
      {"pegasus", "tokenizer_config.json", "/mask_token_sent", 1, {"mask_token_sent must be a string"}},
      {"mbart",
       "tokenizer_config.json",
       "/src_lang",
       "xx_XX",
       {"tokenizer_config.json: src_lang is \"xx_XX\"", "ar_AR, cs_CZ"}},
      {"mbart", "tokenizer_config.json", "/src_lang", 4, {"tokenizer_config.json: src_lang must be a string"}},
      {"mbart50",
       "tokenizer_config.json",
       "/added_tokens_decoder",
       {{"1", "x"}},
       {"added_tokens_decoder[\"1\"] must be an object"}},
      {"marian", "tokenizer_config.json", "/separate_vocabs", true, {"separate_vocabs must be false"}},
      {"marian", "vocab.json", "/<unk>", "x", {"vocab.json: [\"<unk>\"] must be a token id"}},
      {"marian", "vocab.json", "/☃", 1, {"vocab.json", "the same id 1"}},
      {"marian", "special_tokens_map.json", "/unk_token", "none", {"vocab.json has no unknown token \"none\""}},
      {"t5-json",
       "tokenizer.json",
       "/model/vocab/5",
       "x",
       {"tokenizer.json: model.vocab[5] must be a token and its score"}},
      {"t5-json", "tokenizer.json", "/model/unk_id", 4000, {"tokenizer.json: model.vocab", "4000"}},
      {"t5-json",
       "tokenizer.json",
       "/normalizer/normalizers/0/pattern",
       Json::object(),
       {"normalizer.normalizers[0].pattern must be a String or a Regex"}},
      {"t5-json",
       "tokenizer.json",
       "/normalizer/normalizers/1/type",
       "NFX",
       {"normalizer.normalizers[1].type \"NFX\" is not supported"}},
      {"t5-json",
       "tokenizer.json",
       "/pre_tokenizer/pretokenizers/1/replacement",
       "ab",
       {"tokenizer.json: pre_tokenizer", "one character"}},
      {"t5-json",
       "tokenizer.json",
       "/pre_tokenizer/pretokenizers/1/prepend_scheme",
       "last",
       {"pretokenizers[1].prepend_scheme is \"last\""}},
      {"t5-json",
       "tokenizer.json",
       "/decoder/decoders/3/start",
       -1,
       {"decoder.decoders[3].start must be a whole number"}},
      {"t5-json",
       "tokenizer.json",
       "/decoder/decoders/2/pattern",
       {{"Regex", "x"}},
       {"decoder.decoders[2].pattern.Regex"}},
      {"t5-json", "tokenizer.json", "/decoder/decoders/0/type", "CTC", {"decoder.decoders[0].type \"CTC\""}},
      {"pegasus-json",
       "tokenizer.json",
       "/normalizer/normalizers/0/precompiled_charsmap",
       "%%",
       {"normalizer.normalizers[0].precompiled_charsmap is not base64"}},
      {"gpt2", "vocab.json", "/a", -1, {"vocab.json: [\"a\"] must be a token id"}},
      {"gpt2", "tokenizer_config.json", "/add_bos_token", "yes", {"add_bos_token must be true or false"}},
      {"gpt2", "tokenizer_config.json", "/add_prefix_space", 1, {"add_prefix_space must be true or false"}},
      {"gpt2-json", "tokenizer.json", "/model/type", "WordPiece", {"tokenizer.json: model.type"}},
      {"bpe-json", "tokenizer.json", "/model/merges/0", "a", {"model.merges[0] must be two tokens"}},
      {"bpe-json", "config.json", "/model_type", 3, {"model_type"}},
  };
  for (const auto& test : cases) {
    Copy(test.folder);
    if (std::string(test.file) == "config.json") std::filesystem::remove(directory_ / "tokenizer_config.json");
    Set(test.file, test.pointer, test.value);
    const std::string error = Error();
    for (const std::string& part : test.message) EXPECT_THAT(error, HasSubstr(part)) << test.folder << test.pointer;
  }
}

TEST_F(TokenizerFamiliesTest, MissingAndBrokenModels) {
  const std::pair<const char*, const char*> files[] = {{"t5", "spiece.model"},
                                                       {"pegasus", "spiece.model"},
                                                       {"mbart", "sentencepiece.bpe.model"},
                                                       {"mbart50", "sentencepiece.bpe.model"},
                                                       {"marian", "source.spm"},
                                                       {"marian", "target.spm"},
                                                       {"marian", "vocab.json"},
                                                       {"gpt2", "vocab.json"},
                                                       {"gpt2", "merges.txt"}};
  for (const auto& [folder, file] : files) {
    Copy(folder);
    Write(file, "\xFF\xFF nothing of the kind");
    EXPECT_THAT(Error(), HasSubstr(file)) << folder;
    std::filesystem::remove(directory_ / file);
    EXPECT_THAT(Error(), HasSubstr(file)) << folder;
  }
}

TEST_F(TokenizerFamiliesTest, TheModelTypeNamesTheClassWhereNoneIsStated) {
  for (const auto& [folder, type] : std::vector<std::pair<const char*, const char*>>{
           {"t5", "mt5"}, {"pegasus", "pegasus_x"}, {"mbart", "mbart"}, {"marian", "marian"}, {"gpt2", "gpt2"}}) {
    Copy(folder);
    const Ids expected = Load()->Encode("over the fox", {.add_special_tokens = false})->ids;
    Json config = Read("tokenizer_config.json");
    config.erase("tokenizer_class");
    Write("tokenizer_config.json", config);
    Set("config.json", "/model_type", type);
    EXPECT_EQ(Load()->Encode("over the fox", {.add_special_tokens = false})->ids, expected) << folder;
  }
  Copy("t5");
  Write("tokenizer_config.json", "{}");
  Set("config.json", "/model_type", "led");
  EXPECT_THAT(Error(), HasSubstr("model_type \"led\""));
}

TEST_F(TokenizerFamiliesTest, LanguagesSaySourceAndTarget) {
  Copy("mbart50");
  auto tokenizer = Load();
  EXPECT_EQ(tokenizer->languages().size(), 52u);
  EXPECT_TRUE(tokenizer->has_source_language());
  EXPECT_EQ(tokenizer->target_language_use(), TargetLanguageUse::kForcedBos);
  const Frame frame = *tokenizer->FrameOf("fr_XX", "ro_RO");
  EXPECT_EQ(frame.before, Ids{*tokenizer->TokenId("fr_XX")});
  EXPECT_EQ(frame.after, Ids{*tokenizer->TokenId("</s>")});
  EXPECT_EQ(frame.target, tokenizer->TokenId("ro_RO"));
  EXPECT_EQ(tokenizer->FrameOf("", "")->target, std::nullopt);
  EXPECT_THAT(std::string(tokenizer->FrameOf("fr", "").status().message()),
              HasSubstr("source_language is \"fr\"; the model knows ar_AR, cs_CZ"));
  EXPECT_THAT(std::string(tokenizer->Encode("a", {.target_language = "ro"}).status().message()),
              HasSubstr("target_language is \"ro\"; the model knows"));

  Copy("mbart-json");
  tokenizer = Load();
  EXPECT_EQ(tokenizer->languages().size(), 25u);
  EXPECT_EQ(tokenizer->target_language_use(), TargetLanguageUse::kDecoderStart);
  EXPECT_EQ(tokenizer->FrameOf("", "en_XX")->after, (Ids{2, *tokenizer->TokenId("de_DE")}));

  Copy("marian");
  tokenizer = Load();
  EXPECT_FALSE(tokenizer->has_source_language());
  EXPECT_EQ(tokenizer->target_language_use(), TargetLanguageUse::kBeforeText);
  EXPECT_EQ(tokenizer->FrameOf("", "fra")->before, Ids{*tokenizer->TokenId(">>fra<<")});
  EXPECT_THAT(std::string(tokenizer->FrameOf("eng", "").status().message()), HasSubstr("the model takes none"));

  Copy("t5");
  tokenizer = Load();
  EXPECT_TRUE(tokenizer->languages().empty());
  EXPECT_THAT(std::string(tokenizer->FrameOf("", "fra").status().message()), HasSubstr("the model takes none"));
}

TEST_F(TokenizerFamiliesTest, TruncationLeavesTheEndWhereTheFilesSaySo) {
  Copy("mbart");
  const Ids all = Load()->Encode("the quick brown fox jumps over the lazy dog")->ids;
  Set("tokenizer_config.json", "/truncation_side", "left");
  const auto tokenizer = Load();
  EXPECT_TRUE(tokenizer->truncates_left());
  for (const bool spans : {false, true}) {
    const Encoding cut = *tokenizer->Encode("the quick brown fox jumps over the lazy dog",
                                            {.spans = spans, .max_tokens = 6, .truncate = true});
    EXPECT_TRUE(cut.too_long);
    EXPECT_EQ(cut.ids, Ids(all.end() - 6, all.end()));
  }
  EXPECT_THAT(std::string(tokenizer->Encode("a", {.max_tokens = 1}).status().message()),
              HasSubstr("max_tokens is 1: 2 tokens stand around a text already"));
}

TEST_F(TokenizerFamiliesTest, T5PutsASpaceWhereItsFlagsSay) {
  Copy("t5");
  const auto encode = [&] { return Load()->Encode("over<extra_id_0>over", {.add_special_tokens = false})->ids; };
  const Ids always = encode();
  Set("tokenizer_config.json", "/legacy", false);
  const Ids first = encode();
  Set("tokenizer_config.json", "/add_prefix_space", false);
  const Ids never = encode();
  // All begin with the word after a space but the last; only the first has one behind the special token too.
  EXPECT_EQ(always.front(), first.front());
  EXPECT_NE(always, first);
  EXPECT_NE(first, never);
  EXPECT_EQ(first.back(), never.back());
}

// What transformers' GPT2Tokenizer gives with these keys: they say what stands around a text where there is no
// tokenizer.json, and are not read where there is one, but for the space.
TEST_F(TokenizerFamiliesTest, Gpt2FramesATextWhereItsFlagsSay) {
  const auto encode = [&] { return Load()->Encode("the fox ")->ids; };
  Copy("gpt2");
  EXPECT_EQ(encode(), (Ids{293, 339, 220}));
  Set("tokenizer_config.json", "/add_prefix_space", true);
  EXPECT_EQ(encode(), (Ids{261, 339, 220}));
  Copy("gpt2");
  Set("tokenizer_config.json", "/add_bos_token", true);
  EXPECT_EQ(encode(), (Ids{399, 293, 339, 220}));
  Set("tokenizer_config.json", "/bos_token", "over");
  EXPECT_EQ(encode(), (Ids{400, 293, 339, 220}));
  Copy("gpt2");
  Set("tokenizer_config.json", "/add_eos_token", true);
  EXPECT_EQ(encode(), (Ids{293, 339, 220, 399}));
  Copy("gpt2-json");
  Set("tokenizer_config.json", "/add_bos_token", false);
  Set("tokenizer_config.json", "/add_eos_token", true);
  EXPECT_EQ(encode(), (Ids{329, 261, 270, 320, 220}));
  Set("tokenizer_config.json", "/add_prefix_space", false);
  EXPECT_EQ(encode(), (Ids{329, 293, 270, 320, 220}));
}

TEST_F(TokenizerFamiliesTest, CleansSpacesUpWhereTheFilesSaySo) {
  Copy("mbart");
  const Ids ids = Load()->Encode("it ' s the fox . the dog ,", {.add_special_tokens = false})->ids;
  EXPECT_EQ(Load()->Decode(ids), "it ' s the fox . the dog ,");
  Set("tokenizer_config.json", "/clean_up_tokenization_spaces", true);
  const auto tokenizer = Load();
  EXPECT_EQ(tokenizer->Decode(ids), "it's the fox. the dog,");
  Detokenizer detokenizer = tokenizer->NewDetokenizer();
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Push(id);
  EXPECT_EQ(text + detokenizer.Finish(), "it's the fox. the dog,");
}

TEST_F(TokenizerFamiliesTest, HonoursTheStatedLength) {
  Copy("t5");
  EXPECT_EQ(Load()->model_max_length(), 512);
  Copy("bpe-json");
  EXPECT_EQ(Load()->model_max_length(), std::nullopt);
}

}  // namespace
}  // namespace elserve
