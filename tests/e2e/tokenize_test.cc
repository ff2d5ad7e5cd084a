// Tokenize and Detokenize of a running server, and `elserve tokenize` with and without one: what they answer is what
// the golden cases of the tokenizers say (tests/golden/tokenizer), and what they refuse is named.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

const fs::path kGolden = fs::path(ELSERVE_SOURCE_DIR) / "tests/golden";

// texts: [text, ids, ids without special tokens, decoded, decoded with special tokens, spans]; tests/golden/README.md.
json ReadCases(const std::string& name) {
  std::ifstream file(kGolden / "tokenizer" / (name + ".json"));
  return json::parse(file);
}

// "debian-synopsis", and "marian": a tiny checkpoint with a golden tokenizer beside it.
class TokenizeTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = fs::path(::testing::TempDir()) / "elserve_tokenize_test";
    fs::remove_all(folder_);
    fs::copy(kGolden / "tokenizer/marian", folder_);
    fs::copy(kGolden / "checkpoints/marian-hub", folder_);
    const std::string rest = ", device: cpu, precision: float32, memory: 64MiB}";
    server_ = new ServerUnderTest(
        {.server = {"max_message_bytes: 16MiB"},
         .entries = {"{name: debian-synopsis, path: " ELSERVE_SOURCE_DIR "/models/debian-synopsis" + rest,
                     "{name: marian, path: " + folder_.string() + rest}});
  }
  static void TearDownTestSuite() {
    delete server_;
    fs::remove_all(folder_);
  }

  static grpc::Status Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
    grpc::ClientContext context;
    return server_->stub().Tokenize(&context, request, response);
  }
  static grpc::Status Detokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) {
    grpc::ClientContext context;
    return server_->stub().Detokenize(&context, request, response);
  }
  static std::string Decoded(const v1::DetokenizeRequest& request) {
    v1::DetokenizeResponse response;
    const grpc::Status status = Detokenize(request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.text();
  }

  // Of `elserve tokenize`.
  struct Run {
    int code;
    std::string output, error;
  };
  static Run Command(std::vector<std::string> arguments, const std::string& input) {
    arguments.insert(arguments.begin(), "tokenize");
    Process process(arguments, input);
    const int code = process.Wait().value_or(-1);
    return {code, process.output(), process.error()};
  }
  static std::vector<std::string> Asking(const std::string& model) {
    return {"--server", server_->address(), "--model", model};
  }

  static inline ServerUnderTest* server_ = nullptr;
  static inline fs::path folder_;
};

std::vector<std::string> With(std::vector<std::string> arguments, const std::vector<std::string>& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST_F(TokenizeTest, RpcsAnswerAsTheReference) {
  for (const std::string model : {"debian-synopsis", "marian"}) {
    const json golden = ReadCases(model);
    for (const json& test : golden["texts"]) {
      SCOPED_TRACE(test[0].dump());
      v1::TokenizeRequest request;
      request.set_model(model);
      request.set_text(test[0].get<std::string>());
      v1::TokenizeResponse tokens;
      const grpc::Status status = Tokenize(request, &tokens);
      ASSERT_TRUE(status.ok()) << status.error_message();
      EXPECT_EQ(json(std::vector<int>(tokens.token_ids().begin(), tokens.token_ids().end())), test[1]);
      json spans = json::array();
      for (int i = 0; i < tokens.begin_size(); ++i) spans.insert(spans.end(), {tokens.begin(i), tokens.end(i)});
      EXPECT_EQ(spans.size(), 2 * test[1].size());
      EXPECT_EQ(spans, test[5].is_null() ? spans : test[5]);

      v1::DetokenizeRequest back;
      back.set_model(model);
      *back.mutable_token_ids() = tokens.token_ids();
      const json& skipped = test[3].is_null() ? test[0] : test[3];
      EXPECT_EQ(Decoded(back), skipped.get<std::string>());
      back.set_skip_special_tokens(false);
      EXPECT_EQ(Decoded(back), (test[4].is_null() ? skipped : test[4]).get<std::string>());
    }
    for (const json& test : golden["decodes"]) {
      v1::DetokenizeRequest request;
      request.set_model(model);
      bool known = true;
      for (const json& id : test[0]) {
        request.add_token_ids(id.get<int>());
        known = known && id >= 0 && id < golden["length"];
      }
      v1::DetokenizeResponse response;
      EXPECT_EQ(Detokenize(request, &response).ok(), known);
      EXPECT_EQ(response.text(), known ? test[1].get<std::string>() : "");
    }
  }
}

TEST_F(TokenizeTest, TheTargetLanguageIsCounted) {
  const json golden = ReadCases("marian");
  ASSERT_FALSE(golden["languages"].empty());
  for (const json& test : golden["languages"]) {
    v1::TokenizeRequest request;
    request.set_model("marian");
    request.set_target_language(test[1].get<std::string>());
    request.set_text(test[2].get<std::string>());
    v1::TokenizeResponse tokens;
    ASSERT_TRUE(Tokenize(request, &tokens).ok());
    EXPECT_EQ(json(std::vector<int>(tokens.token_ids().begin(), tokens.token_ids().end())), test[3]);
    const Run asked = Command(With(Asking("marian"), {"--count", "--target-language", test[1].get<std::string>()}),
                              test[2].get<std::string>());
    EXPECT_EQ(asked.output, std::to_string(test[3].size()) + "\n") << asked.error;
  }
}

TEST_F(TokenizeTest, RpcsRefuseByName) {
  const struct {
    std::string model, text, source, target;
    grpc::StatusCode code;
    std::vector<std::string> words;
  } texts[] = {
      {"gpt", "a", "", "", grpc::NOT_FOUND, {"gpt", "debian-synopsis"}},
      {"", "a", "", "", grpc::INVALID_ARGUMENT, {"model", "debian-synopsis", "marian"}},
      {"marian", "ab\xff", "", "", grpc::INVALID_ARGUMENT, {"text", "2"}},
      {"marian",
       std::string((1 << 20) + 1, 'a'),
       "",
       "",
       grpc::INVALID_ARGUMENT,
       {"text has 1048577 bytes", "1048576"}},
      {"marian", "a", "eng", "", grpc::INVALID_ARGUMENT, {"source_language is \"eng\"", "takes none"}},
      {"marian", "a", "", "fr", grpc::INVALID_ARGUMENT, {"target_language is \"fr\"; the model knows", "fra"}},
      {"debian-synopsis", "a", "", "fra", grpc::INVALID_ARGUMENT, {"target_language is \"fra\"", "takes none"}},
  };
  for (const auto& test : texts) {
    v1::TokenizeRequest request;
    request.set_model(test.model);
    request.set_text(test.text);
    request.set_source_language(test.source);
    request.set_target_language(test.target);
    v1::TokenizeResponse response;
    const grpc::Status status = Tokenize(request, &response);
    EXPECT_EQ(status.error_code(), test.code) << status.error_message();
    for (const std::string& word : test.words) EXPECT_THAT(status.error_message(), HasSubstr(word));
  }
  for (const auto& [model, id, words] : std::vector<std::tuple<std::string, int, std::string>>{
           {"debian-synopsis", 8192, "token_ids[1] is 8192; allowed are 0 to 8191"},
           {"marian", 373, "token_ids[1] is 373; allowed are 0 to 372"},
           {"marian", -1, "token_ids[1] is -1; allowed are 0 to 372"},
           {"gpt", 0, "gpt"}}) {
    v1::DetokenizeRequest request;
    request.set_model(model);
    request.add_token_ids(0);
    request.add_token_ids(id);
    v1::DetokenizeResponse response;
    const grpc::Status status = Detokenize(request, &response);
    EXPECT_EQ(status.error_code(), model == "gpt" ? grpc::NOT_FOUND : grpc::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr(words));
  }
}

// Each line of the input is a case: what has a line break of its own is left out.
void ExpectTheReference(const std::string& name, const std::vector<std::string>& arguments) {
  SCOPED_TRACE(name);
  std::vector<json> cases;
  std::string input;
  const json golden = ReadCases(name);
  for (const json& test : golden["texts"]) {
    const auto text = test[0].get<std::string>();
    if (text.find_first_of("\r\n") != std::string::npos) continue;
    input += text + "\n";
    cases.push_back(test);
  }
  ASSERT_GT(cases.size(), 250u);
  Process process(With(arguments, {"--lines", "--json"}), input);
  EXPECT_EQ(process.Wait(), 0) << process.error();
  std::istringstream lines(process.output());
  std::string line;
  for (const json& test : cases) {
    ASSERT_TRUE(std::getline(lines, line));
    const json response = json::parse(line)["response"];
    SCOPED_TRACE(test[0].dump());
    EXPECT_EQ(response.value("token_ids", json::array()), test[1]);
    if (test[5].is_null() || test[1].empty()) continue;
    ASSERT_EQ(response["begin"].size(), test[1].size());
    for (size_t i = 0; i < test[1].size(); ++i) {
      EXPECT_EQ(response["begin"][i], std::to_string(test[5][2 * i].get<int>()));
      EXPECT_EQ(response["end"][i], std::to_string(test[5][2 * i + 1].get<int>()));
    }
  }
  EXPECT_FALSE(std::getline(lines, line));
}

TEST_F(TokenizeTest, TheCommandAnswersAsTheReference) {
  for (const std::string model : {"debian-synopsis", "marian"}) {
    ExpectTheReference(model, With({"tokenize"}, Asking(model)));
  }
}

TEST_F(TokenizeTest, TheCommandReadsFoldersItself) {
  ExpectTheReference("debian-synopsis", {"tokenize", "--path", ELSERVE_SOURCE_DIR "/models/debian-synopsis"});
  for (const char* folder : {"odd-json", "odd-vocab", "t5", "t5-json", "pegasus", "mbart", "mbart50", "marian",
                             "marian-bpe", "bpe-json", "gpt2", "gpt2-json"}) {
    ExpectTheReference(folder, {"tokenize", "--path", kGolden / "tokenizer" / folder});
  }
}

TEST_F(TokenizeTest, TheCommandPrintsIdsOrTheirNumber) {
  const std::vector<std::string> marian{"--path", kGolden / "tokenizer/marian"};
  const std::vector<std::string> mbart{"--path", kGolden / "tokenizer/mbart"};
  EXPECT_EQ(Command(marian, "over the fox\n").output, "45 6 175 0\n");
  EXPECT_EQ(Command(With(marian, {"--no-special-tokens"}), "over the fox").output, "45 6 175\n");
  EXPECT_EQ(Command(With(marian, {"--target-language", "fra"}), "over the fox").output, "369 45 6 175 0\n");
  EXPECT_EQ(Command(With(marian, {"--target-language", "fra", "--count"}), "over the fox").output, "5\n");
  EXPECT_EQ(Command(With(mbart, {"--source-language", "ar_AR"}), "over the fox").output, "52 9 201 2 361\n");
  EXPECT_EQ(Command(With(mbart, {"--source-language", "ar_AR", "--target-language", "fr_XX"}), "over the fox").output,
            "52 9 201 2 361\n");
}

TEST_F(TokenizeTest, TheCommandFailsByName) {
  const fs::path broken = folder_ / "broken";
  fs::remove_all(broken);
  fs::copy(kGolden / "tokenizer/t5", broken);
  std::ofstream(broken / "spiece.model") << "nothing of the kind";
  const std::vector<std::string> marian{"--path", kGolden / "tokenizer/marian"};
  const struct {
    std::vector<std::string> arguments;
    std::string input;
    std::string error;
  } cases[] = {
      {{"--path", "/nonexistent/folder"}, "a", "--path is /nonexistent/folder; allowed is "},
      {{"--path", broken}, "a", "spiece.model"},
      {{"--path", kGolden}, "a", "neither tokenizer.json nor "},
      {{"--path", "hub:nobody/nothing"}, "a", "--path is hub:nobody/nothing; allowed is "},
      {marian, "a\xff", "-: the text is not valid UTF-8"},
      {With(marian, {"--target-language", "fr"}), "a", "-: target_language is \"fr\"; the model knows"},
      {With(marian, {"--target-language", "fr", "--no-special-tokens"}), "a", "target_language is \"fr\""},
      {With(marian, {"--source-language", "eng"}), "a", "-: source_language is \"eng\"; the model takes none"},
      {With(marian, {"/nonexistent/a.txt"}), "", "/nonexistent/a.txt: No such file"},
      {Asking("gpt"), "a", "-: NOT_FOUND: "},
      {Asking("marian"), "a\xff", "-: INVALID_ARGUMENT: text"},
      {Asking("marian"), std::string((1 << 20) + 1, 'a'), "-: INVALID_ARGUMENT: text has 1048577 bytes"},
      {With(Asking("marian"), {"--target-language", "fr"}), "a", "INVALID_ARGUMENT: target_language is \"fr\""},
      {With(Asking("marian"), {"--source-language", "eng"}), "a", "INVALID_ARGUMENT: source_language is \"eng\""},
      {{"--server", "127.0.0.1:1"}, "a", "-: UNAVAILABLE: "},
  };
  for (const auto& test : cases) {
    const Run run = Command(test.arguments, test.input);
    EXPECT_EQ(run.code, 1) << test.error;
    EXPECT_EQ(run.output, "") << test.error;
    EXPECT_THAT(run.error, HasSubstr(test.error));
  }
}

}  // namespace
}  // namespace elserve
