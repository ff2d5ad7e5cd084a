// A tokenizer's folder that a test writes, and the tokenizer that it makes.
#ifndef ELSERVE_TESTS_SERVER_TEXT_TOKENIZER_FOLDER_H_
#define ELSERVE_TESTS_SERVER_TEXT_TOKENIZER_FOLDER_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/text/tokenizer.h"

namespace elserve {

class TokenizerFolderTest : public testing::Test {
 protected:
  using Json = nlohmann::json;

  void SetUp() override {
    const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
    directory_ = std::filesystem::path(testing::TempDir()) /
                 (std::string("elserve_") + test.test_suite_name() + "_" + test.name());
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // Instead of all that is there: a copy of one of tests/golden/tokenizer.
  void Copy(const std::string& name) {
    std::filesystem::remove_all(directory_);
    std::filesystem::copy(std::filesystem::path(ELSERVE_SOURCE_DIR) / "tests/golden/tokenizer" / name, directory_);
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ / name, std::ios::binary) << text;
  }
  void Write(const std::string& name, const char* text) { Write(name, std::string(text)); }
  void Write(const std::string& name, const Json& json) { Write(name, json.dump()); }
  Json Read(const std::string& name) { return Json::parse(std::ifstream(directory_ / name)); }
  // Changes one value of a file, or makes one that has it.
  void Set(const std::string& name, const std::string& pointer, const Json& value) {
    Json json = std::filesystem::exists(directory_ / name) ? Read(name) : Json::object();
    json[Json::json_pointer(pointer)] = value;
    Write(name, json);
  }

  // Of byte-level BPE: a, b and ab.
  static Json GoodTokenizer() {
    return Json::parse(R"({
      "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": false, "special": true}],
      "normalizer": null,
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
      "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]},
      "decoder": {"type": "ByteLevel"},
      "model": {"type": "BPE", "dropout": null, "unk_token": null, "vocab": {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4},
                "merges": [["a", "b"]]}})");
  }
  static Json GoodConfig() { return {{"tokenizer_class", "TokenizersBackend"}}; }
  void WriteVocabForm() {
    Write("vocab.json",
          Json{{"<s>", 0}, {"</s>", 1}, {"a", 2}, {"b", 3}, {"ab", 4}, {"<pad>", 5}, {"<unk>", 6}, {"<mask>", 7}});
    Write("merges.txt", std::string("#version: 0.2\na b\n"));
  }

  // The error of loading the directory; "" if there is none.
  std::string Error() const {
    const auto tokenizer = Tokenizer::Load(directory_);
    return tokenizer.ok() ? "" : std::string(tokenizer.status().message());
  }
  std::unique_ptr<Tokenizer> Load() const {
    auto tokenizer = Tokenizer::Load(directory_);
    if (tokenizer.ok()) return std::move(*tokenizer);
    ADD_FAILURE() << tokenizer.status();
    return nullptr;
  }

  std::filesystem::path directory_;
};

}  // namespace elserve

#endif  // ELSERVE_TESTS_SERVER_TEXT_TOKENIZER_FOLDER_H_
