// Tokenizer files are untrusted: each way to be broken or unsupported is an error that names file and key.
#include <filesystem>
#include <string>
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

class TokenizerFilesTest : public TokenizerFolderTest {};

TEST_F(TokenizerFilesTest, TheGoodFilesLoad) {
  Write("tokenizer.json", GoodTokenizer());
  Write("tokenizer_config.json", GoodConfig());
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->Encode("abba<s>")->ids, (Ids{0, 4, 3, 2, 0, 1}));
  EXPECT_EQ(tokenizer->model_max_length(), std::nullopt);
}

TEST_F(TokenizerFilesTest, BrokenTokenizerJson) {
  const struct {
    const char* pointer;  // what is replaced
    Json value;
    std::vector<std::string> message;
  } cases[] = {
      {"/model", nullptr, {"tokenizer.json: model is missing"}},
      {"/model", "BPE", {"tokenizer.json: model must be an object"}},
      {"/model/type", "WordPiece", {"model.type \"WordPiece\" is not supported: BPE and Unigram are"}},
      {"/model/type", "Unigram", {"model.unk_id is missing"}},
      {"/model/type", 3, {"model.type must be a string"}},
      {"/model/dropout", 0.1, {"model.dropout must be null"}},
      {"/model/byte_fallback", true, {"model.byte_fallback"}},
      {"/model/continuing_subword_prefix", "##", {"model.continuing_subword_prefix"}},
      {"/model/end_of_word_suffix", "</w>", {"model.end_of_word_suffix"}},
      {"/model/fuse_unk", "yes", {"model.fuse_unk must be true or false"}},
      {"/model/unk_token", "<none>", {"\"<none>\" is not in tokenizer.json: model.vocab"}},
      {"/model/vocab", nullptr, {"model.vocab is missing"}},
      {"/model/vocab", Json::object(), {"model.vocab is empty"}},
      {"/model/vocab", Json::array(), {"model.vocab must be an object"}},
      {"/model/vocab/b", -1, {"model.vocab[\"b\"]", "-1"}},
      {"/model/vocab/b", 1 << 20, {"model.vocab", "1048576", "0 to 1048575"}},
      {"/model/vocab/b", 1.5, {"model.vocab[\"b\"]", "1.5"}},
      {"/model/vocab/b", 1e300, {"model.vocab[\"b\"]"}},
      {"/model/vocab/b", "3", {"model.vocab[\"b\"]"}},
      {"/model/vocab/b", 2, {"model.vocab", "have the same id 2"}},
      {"/model/merges", nullptr, {"model.merges is missing"}},
      {"/model/merges/0", "a", {"model.merges[0] must be two tokens"}},
      {"/model/merges/0", "a b c", {"model.merges[0] must be two tokens"}},
      {"/model/merges/0", Json::array({"a"}), {"model.merges[0] must be two tokens"}},
      {"/model/merges/0", Json::array({"a", 3}), {"model.merges[0] must be two tokens"}},
      {"/model/merges/0", Json::array({"a", "x"}), {"model.merges[0]", "needs the token \"x\""}},
      {"/model/merges/0", Json::array({"b", "a"}), {"model.merges[0]", "needs the token \"ba\""}},
      {"/normalizer", {{"type", "NFX"}}, {"normalizer.type \"NFX\" is not supported: Precompiled, NFC"}},
      {"/pre_tokenizer/type", "Digits", {"pre_tokenizer.type \"Digits\" is not supported: ByteLevel, Metaspace"}},
      {"/pre_tokenizer/type", "Metaspace", {"pre_tokenizer.replacement is missing"}},
      {"/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "Digits"}}}}}, {"pretokenizers[0].type"}},
      {"/pre_tokenizer/use_regex", 1, {"pre_tokenizer.use_regex must be true or false"}},
      {"/decoder", nullptr, {"decoder is missing"}},
      {"/decoder/type", "WordPiece", {"decoder.type \"WordPiece\" is not supported"}},
      {"/post_processor/type", "Magic", {"post_processor.type \"Magic\" is not supported"}},
      {"/post_processor/cls", nullptr, {"post_processor.cls must be a token and its id"}},
      {"/post_processor/sep", Json::array({"</s>", 99}), {"post_processor.sep", "not a token of the vocabulary"}},
      {"/post_processor", {{"type", "TemplateProcessing"}}, {"post_processor.single is missing"}},
      {"/post_processor",
       {{"type", "TemplateProcessing"}, {"single", Json::array()}},
       {"post_processor.single must hold the sequence A"}},
      {"/post_processor",
       {{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}}},
       {"special_tokens[\"<s>\"].ids must be a list"}},
      {"/added_tokens", 7, {"added_tokens must be an array"}},
      {"/added_tokens/0", "x", {"added_tokens[0] must be an object"}},
      {"/added_tokens/0/content", nullptr, {"added_tokens[0].content is missing"}},
      {"/added_tokens/0/content", "", {"added_tokens[0]", "0 bytes"}},
      {"/added_tokens/0/content", std::string(600, 'x'), {"added_tokens[0]", "600 bytes", "1 to 512"}},
      {"/added_tokens/0/lstrip", "no", {"added_tokens[0].lstrip must be true or false"}},
      {"/added_tokens/0/id", nullptr, {"added_tokens[0] has no id"}},
      {"/added_tokens/0/id", -5, {"added_tokens[0].id", "-5"}},
      {"/added_tokens/0/id", 4, {"added_tokens[0]", "the id 4, but its place in the vocabulary is 0"}},
  };
  Write("tokenizer_config.json", GoodConfig());
  for (const auto& test : cases) {
    Json json = GoodTokenizer();
    json[Json::json_pointer(test.pointer)] = test.value;
    Write("tokenizer.json", json);
    const std::string error = Error();
    for (const std::string& part : test.message)
      EXPECT_THAT(error, HasSubstr(part)) << test.pointer << ": " << test.value;
  }
}

TEST_F(TokenizerFilesTest, WhatIsNoJson) {
  Write("tokenizer_config.json", GoodConfig());
  const std::string good = GoodTokenizer().dump();
  for (const std::string& text : {std::string(), std::string("{"), good.substr(0, good.size() / 2),
                                  std::string("{\"a\": \"\xFF\"}"), std::string(200000, '['), std::string("{} x")}) {
    Write("tokenizer.json", text);
    EXPECT_THAT(Error(), HasSubstr("tokenizer.json is not JSON"));
  }
  Write("tokenizer.json", std::string("[1]"));
  EXPECT_THAT(Error(), HasSubstr("tokenizer.json must hold an object"));
}

TEST_F(TokenizerFilesTest, MissingAndStrangeFiles) {
  EXPECT_THAT(Error(), HasSubstr("neither tokenizer.json nor vocab.json"));
  WriteVocabForm();
  EXPECT_EQ(Error(), "");
  Write("tokenizer_config.json", GoodConfig());
  EXPECT_THAT(Error(), HasSubstr("no tokenizer.json"));
  std::filesystem::remove(directory_ / "tokenizer_config.json");
  std::filesystem::remove(directory_ / "merges.txt");
  EXPECT_THAT(Error(), HasSubstr("merges.txt does not exist"));
  std::filesystem::create_directory(directory_ / "merges.txt");
  EXPECT_THAT(Error(), HasSubstr("merges.txt is not a file"));
  // Far above the limit without a byte written.
  Write("tokenizer.json", std::string("{}"));
  std::filesystem::resize_file(directory_ / "tokenizer.json", 65 << 20);
  EXPECT_THAT(Error(), HasSubstr("tokenizer.json has 68157440 bytes: a tokenizer's file may have at most 67108864"));
}

TEST_F(TokenizerFilesTest, BrokenVocabForm) {
  const struct {
    const char* file;
    std::string text;
    const char* message;
  } cases[] = {
      {"vocab.json", R"({"a": "x"})", "vocab.json: [\"a\"] must be a token id"},
      {"vocab.json", R"({"a": 1, "b": 1})", "have the same id 1"},
      {"merges.txt", "a b\n\n", "merges.txt: line 2"},
      {"merges.txt", "#version: 0.2\nab\n", "merges.txt: line 2"},
      {"merges.txt", "a  b\n", "merges.txt: line 1"},
      {"merges.txt", "a \xFF\n", "merges.txt is not valid UTF-8"},
      {"merges.txt", "a q\n", "merges.txt[0] (\"a\", \"q\") needs the token \"q\", which is not in vocab.json"},
      {"added_tokens.json", R"({"new": 9})", "added_tokens.json: [\"new\"]: \"new\" is said to have the id 9"},
      {"added_tokens.json", R"({"new": "9"})", "added_tokens.json: [\"new\"] must be a token id"},
      {"special_tokens_map.json", R"({"bos_token": 3})", "special_tokens_map.json: bos_token must be a string"},
      {"special_tokens_map.json", R"({"bos_token": {"content": 3}})", "bos_token.content must be a string"},
      {"tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})",
       "tokenizer_class \"LlamaTokenizer\" is not supported"},
      {"tokenizer_config.json", R"({"add_prefix_space": 1})",
       "tokenizer_config.json: add_prefix_space must be true or false"},
      {"tokenizer_config.json", R"({"model_max_length": 0})", "model_max_length must be a number of tokens"},
      {"tokenizer_config.json", R"({"model_max_length": "many"})", "model_max_length must be a number of tokens"},
      {"tokenizer_config.json", R"({"split_special_tokens": true})", "split_special_tokens must be false"},
      {"tokenizer_config.json", R"({"bos_token": {"content": "<s>"}})", "bos_token must be a string or an added token"},
      {"tokenizer_config.json", R"({"extra_special_tokens": 5})", "extra_special_tokens must be a list"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})", "added_tokens_decoder[\"x\"]"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"99": {"content": "y"}}})", "the id 99"},
      {"tokenizer_config.json", R"({"added_tokens_decoder": {"8": "y"}})",
       "added_tokens_decoder[\"8\"] must be an object"}};
  for (const auto& test : cases) {
    WriteVocabForm();
    Write(test.file, test.text);
    EXPECT_THAT(Error(), HasSubstr(test.message)) << test.file << ": " << test.text;
    std::filesystem::remove(directory_ / test.file);
  }
}

TEST_F(TokenizerFilesTest, HolesAreKeptAndNeverFilled) {
  Json json = GoodTokenizer();
  json["model"]["vocab"]["ab"] = 9;
  Write("tokenizer.json", json);
  Write("tokenizer_config.json", GoodConfig());
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 10);
  EXPECT_EQ(tokenizer->TokenText(7), std::nullopt);
  EXPECT_EQ(tokenizer->Encode("ab", {.add_special_tokens = false})->ids, (Ids{9}));
  // The next id would be 5, the count of tokens; with a token there, it is taken.
  json["model"]["vocab"]["ab"] = 5;
  Write("tokenizer.json", json);
  Json config = GoodConfig();
  config["extra_special_tokens"] = {"new"};
  Write("tokenizer_config.json", config);
  EXPECT_THAT(Error(), HasSubstr("\"new\" would have the id 5, which is another token's"));
}

TEST_F(TokenizerFilesTest, BytesWithoutATokenAreUnknownOrLeftOut) {
  Json json = GoodTokenizer();
  Write("tokenizer_config.json", GoodConfig());
  const auto encode = [&](const char* text) { return Load()->Encode(text, {.add_special_tokens = false})->ids; };
  Write("tokenizer.json", json);
  EXPECT_EQ(encode("axxb"), (Ids{4}));  // what is left stands together
  json["model"]["unk_token"] = "</s>";
  Write("tokenizer.json", json);
  EXPECT_EQ(encode("axxb"), (Ids{2, 1, 1, 3}));
  json["model"]["fuse_unk"] = true;
  Write("tokenizer.json", json);
  EXPECT_EQ(encode("axxb"), (Ids{2, 1, 3}));
}

TEST_F(TokenizerFilesTest, IgnoreMergesTakesWholeWords) {
  Json json = GoodTokenizer();
  json["model"]["vocab"]["aab"] = 5;
  Write("tokenizer_config.json", GoodConfig());
  Write("tokenizer.json", json);
  EXPECT_EQ(Load()->Encode("aab", {.add_special_tokens = false})->ids, (Ids{2, 4}));
  json["model"]["ignore_merges"] = true;
  Write("tokenizer.json", json);
  EXPECT_EQ(Load()->Encode("aab", {.add_special_tokens = false})->ids, (Ids{5}));
}

TEST_F(TokenizerFilesTest, MergesMayBeStrings) {
  Json json = GoodTokenizer();
  json["model"]["merges"] = {"#version: 0.2", "a b"};
  Write("tokenizer_config.json", GoodConfig());
  Write("tokenizer.json", json);
  EXPECT_EQ(Load()->Encode("ab", {.add_special_tokens = false})->ids, (Ids{4}));
}

// The class RobertaTokenizer takes vocabulary and merges from tokenizer.json, and the rest from its configuration.
TEST_F(TokenizerFilesTest, RobertaTokenizerHasItsOwnFrame) {
  Json json = GoodTokenizer();
  json["model"]["vocab"]["\u0120"] = 5;
  json["pre_tokenizer"]["add_prefix_space"] = true;
  json["post_processor"] = nullptr;
  Write("tokenizer.json", json);
  Write("tokenizer_config.json", Json{{"tokenizer_class", "RobertaTokenizer"}, {"sep_token", "b"}});
  const auto tokenizer = Load();
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->Encode("a a")->ids, (Ids{0, 2, 5, 2, 3}));
  EXPECT_TRUE(tokenizer->is_special(3));
  EXPECT_EQ(tokenizer->TokenId("<mask>"), 8);  // added after <unk> and <pad>
}

TEST_F(TokenizerFilesTest, RobertaTokenizerMergesWholeWords) {
  Json json = GoodTokenizer();
  json["model"]["vocab"]["aab"] = 5;
  json["model"]["ignore_merges"] = true;
  json["model"]["unk_token"] = "</s>";
  json["model"]["fuse_unk"] = true;
  Write("tokenizer.json", json);
  Write("tokenizer_config.json", Json{{"tokenizer_class", "RobertaTokenizer"}});
  EXPECT_EQ(Load()->Encode("aab", {.add_special_tokens = false})->ids, (Ids{2, 4})) << "ignore_merges";
  EXPECT_EQ(Load()->Encode("xxb", {.add_special_tokens = false})->ids, (Ids{3})) << "unk_token";
}

// What a step or an added token does not say.
TEST_F(TokenizerFilesTest, DefaultsOfStepsAndTokens) {
  Json json = GoodTokenizer();
  json["model"]["vocab"]["\u0120"] = 5;
  json["model"]["vocab"]["\u0120a"] = 6;
  json["model"]["vocab"]["a\u0120"] = 7;  // crosses words
  json["model"]["merges"] = {"a \u0120", "\u0120 a"};
  json["pre_tokenizer"] = {{"type", "ByteLevel"}};
  json["added_tokens"] = {{{"id", 8}, {"content", "x"}}};
  Write("tokenizer.json", json);
  Write("tokenizer_config.json", GoodConfig());
  const auto tokenizer = Load();
  const auto encode = [&](const char* text) { return tokenizer->Encode(text, {.add_special_tokens = false})->ids; };
  EXPECT_EQ(encode("a"), (Ids{6})) << "add_prefix_space";
  EXPECT_EQ(encode("a a"), (Ids{6, 6})) << "use_regex";
  EXPECT_EQ(encode("ax"), (Ids{6, 8})) << "single_word";
  EXPECT_EQ(encode("a x a"), (Ids{6, 5, 8, 6})) << "lstrip";
  EXPECT_EQ(encode("x  a"), (Ids{8, 5, 6})) << "rstrip";
  EXPECT_FALSE(tokenizer->is_special(8));
}

TEST_F(TokenizerFilesTest, WhatIsAtALimitIsTaken) {
  Json json = GoodTokenizer();
  json["model"]["dropout"] = 0.0;
  json["added_tokens"].push_back({{"id", 5}, {"content", std::string(512, 'x')}});
  Json steps = Json::array();
  for (int i = 0; i < 16; ++i) steps.push_back({{"type", "ByteLevel"}});
  json["post_processor"] = {{"type", "Sequence"}, {"processors", steps}};
  Write("tokenizer.json", json);
  Json config = GoodConfig();
  Json names = Json::array();
  for (int i = 0; i < 4096; ++i) names.push_back(absl::StrCat("n", i));
  config["additional_special_tokens"] = names;
  config["model_max_length"] = 1;
  Write("tokenizer_config.json", config);
  EXPECT_EQ(Error(), "");
  EXPECT_EQ(Load()->model_max_length(), 1);
  config["model_max_length"] = 1e30;  // how transformers writes that there is none
  Write("tokenizer_config.json", config);
  EXPECT_EQ(Load()->model_max_length(), std::nullopt);

  config["additional_special_tokens"].push_back("one");
  Write("tokenizer_config.json", config);
  EXPECT_THAT(Error(), HasSubstr("additional_special_tokens has 4097 tokens: at most 4096"));
  Write("tokenizer_config.json", GoodConfig());
  json["post_processor"]["processors"].push_back({{"type", "ByteLevel"}});
  Write("tokenizer.json", json);
  EXPECT_THAT(Error(), HasSubstr("post_processor.processors has 17 steps: at most 16"));
}

TEST_F(TokenizerFilesTest, KnowsTheClassesThatReadTheseFiles) {
  WriteVocabForm();
  for (const char* name : {"RobertaTokenizer", "RobertaTokenizerFast", "BartTokenizer", "BartTokenizerFast"}) {
    Write("tokenizer_config.json", Json{{"tokenizer_class", name}});
    EXPECT_EQ(Error(), "") << name;
  }
  Write("tokenizer.json", GoodTokenizer());
  for (const char* name : {"PreTrainedTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"}) {
    Write("tokenizer_config.json", Json{{"tokenizer_class", name}});
    EXPECT_EQ(Error(), "") << name;
  }
}

}  // namespace
}  // namespace elserve
