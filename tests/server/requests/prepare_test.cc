#include "server/requests/prepare.h"

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/questions.h"
#include "server/requests/score.h"
#include "tests/server/requests/fake_model.h"
#include "tests/server/requests/rpc_requests.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PrepareTest : public ::testing::Test {
 protected:
  // Made once: a tokenizer takes a while to load.
  static void SetUpTestSuite() {
    one_ = new ModelRegistry(MakeFakeModels());
    two_ = new ModelRegistry(MakeFakeModels({{.name = "first"}, {.name = "second", .questions = false}}));
  }
  static void TearDownTestSuite() {
    delete one_;
    delete two_;
  }
  static const ServedModel& model() { return *one_->models().front().served; }

  template <typename Request>
  static void ExpectRefused(const ModelRegistry& models, const Request& request, const std::vector<std::string>& words,
                            bool stream = false, absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const auto call = Prepare(models, request, stream);
    ASSERT_FALSE(call.ok()) << request.ShortDebugString();
    EXPECT_EQ(call.status().code(), code) << call.status();
    for (const std::string& word : words) EXPECT_THAT(std::string(call.status().message()), HasSubstr(word));
  }

  static inline const ModelRegistry* one_ = nullptr;
  static inline const ModelRegistry* two_ = nullptr;
};

v1::SummarizeRequest Summarize(const std::string& document) {
  v1::SummarizeRequest request;
  request.set_document(document);
  return request;
}

std::string Words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "word ";
  return text;
}

TEST_F(PrepareTest, FindsModels) {
  v1::SummarizeRequest request = Summarize("text");
  EXPECT_TRUE(Prepare(*one_, request, false).ok());
  ExpectRefused(*two_, request, {"model", "empty", "first, second"});
  request.set_model("second");
  EXPECT_EQ((*Prepare(*two_, request, false)).model->name(), "second");
  request.set_model("third");
  ExpectRefused(*two_, request, {"third", "first, second"}, false, absl::StatusCode::kNotFound);
}

TEST_F(PrepareTest, ChecksTexts) {
  ExpectRefused(*one_, Summarize(""), {"document", "empty"});
  ExpectRefused(*one_, Summarize("ab\xff"), {"document", "2"});
  ExpectRefused(*one_, v1::GenerateRequest(), {"text", "token_ids"});
}

template <typename Request>
Request OnDeadline(int value) {
  Request request;
  request.set_on_deadline(static_cast<v1::OnDeadline>(value));
  return request;
}

TEST_F(PrepareTest, ChecksOnDeadline) {
  const std::vector<std::string> words{"on_deadline is 3", "ON_DEADLINE_FAIL (1) and ON_DEADLINE_BEST_SO_FAR (2)"};
  ExpectRefused(*one_, OnDeadline<v1::SummarizeRequest>(3), words);
  ExpectRefused(*one_, OnDeadline<v1::GenerateRequest>(3), words);
  ExpectRefused(*one_, OnDeadline<v1::GenerateQuestionsRequest>(3), words);
  for (const auto value : {v1::ON_DEADLINE_UNSPECIFIED, v1::ON_DEADLINE_FAIL, v1::ON_DEADLINE_BEST_SO_FAR}) {
    v1::SummarizeRequest request = Summarize("text");
    request.set_on_deadline(value);
    const auto call = Prepare(*one_, request, false);
    ASSERT_TRUE(call.ok()) << call.status();
    EXPECT_EQ(call->best_so_far, value == v1::ON_DEADLINE_BEST_SO_FAR);
  }
}

TEST_F(PrepareTest, ChecksRequestIds) {
  v1::SummarizeRequest request = Summarize("text");
  request.set_request_id(std::string(129, 'x'));
  ExpectRefused(*one_, request, {"request_id", "129", "128"});
  request.set_request_id("a\nb");
  ExpectRefused(*one_, request, {"request_id", "a\\nb"});
  request.set_request_id("a\x7f");
  ExpectRefused(*one_, request, {"request_id", "byte 1"});
  request.set_request_id(" ~");
  EXPECT_TRUE(Prepare(*one_, request, false).ok());
  request.clear_request_id();
  const std::string made = Prepare(*one_, request, false)->request_id;
  EXPECT_EQ(made.size(), 16u);
  EXPECT_NE(Prepare(*one_, request, false)->request_id, made);
  request.set_request_id(std::string(128, 'x'));
  EXPECT_EQ((*Prepare(*one_, request, false)).request_id, request.request_id());
}

TEST_F(PrepareTest, ChecksParametersBeforeItTokenizes) {
  v1::SummarizeRequest request = Summarize("not UTF-8: \xff");
  request.mutable_parameters()->set_num_beams(33);
  ExpectRefused(*one_, request, {"num_beams", "33", "32"});
}

TEST_F(PrepareTest, MergesOverTheDefaults) {
  v1::SummarizeRequest request = Summarize("text");
  request.mutable_parameters()->set_max_new_tokens(7);
  const auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->jobs[0].decoding.max_length, 8);
  EXPECT_EQ(call->jobs[0].decoding.num_beams, 1);  // YAML over the checkpoint's 4
  EXPECT_THAT(call->jobs[0].decoding.eos_token_id, ElementsAre(2));
  EXPECT_EQ(call->effective.eos_token_id(0), 2);
}

TEST_F(PrepareTest, SamplingParametersNeedDoSampleAndGetASeed) {
  v1::SummarizeRequest request = Summarize("text");
  request.mutable_parameters()->set_temperature(0.7);
  ExpectRefused(*one_, request, {"temperature is 0.7", "do_sample: true"});
  request.mutable_parameters()->set_do_sample(true);
  const auto first = Prepare(*one_, request, false), second = Prepare(*one_, request, false);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(first->jobs[0].decoding.do_sample);
  EXPECT_EQ(first->jobs[0].decoding.sampling.temperature, 0.7f);
  EXPECT_EQ(first->effective.seed(), first->jobs[0].decoding.sampling.seed);
  EXPECT_NE(first->jobs[0].decoding.sampling.seed, second->jobs[0].decoding.sampling.seed);
  request.mutable_parameters()->set_seed(5);
  EXPECT_EQ(Prepare(*one_, request, false)->jobs[0].decoding.sampling.seed, 5u);
}

TEST_F(PrepareTest, TheConfigurationsSamplingParametersNeedDoSample) {
  FakeModelOptions options;
  options.summarize_defaults.set_top_p(0.9);
  const auto create = [&options] {
    return RunningModel::Create(FakeModelConfig(options), MakeFakeEngine(options), nullptr).status();
  };
  EXPECT_THAT(std::string(create().message()), HasSubstr("top_p is 0.9 and do_sample is not true"));
  options.summarize_defaults.set_do_sample(true);
  EXPECT_TRUE(create().ok());
}

TEST_F(PrepareTest, BadWordsAreIdsOfBothSpellings) {
  v1::SummarizeRequest request = Summarize("text");
  request.mutable_parameters()->add_bad_words("package");
  request.mutable_parameters()->add_bad_words_ids()->add_ids(7);
  const auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  const TokenSequences& words = call->jobs[0].decoding.bad_words_ids;
  ASSERT_EQ(words.size(), 3u);
  EXPECT_THAT(words[0], ElementsAre(7));
  const std::vector<int32_t> bare(words[1].begin(), words[1].end()), spaced(words[2].begin(), words[2].end());
  EXPECT_EQ(model().tokenizer().Decode(bare), "package");
  EXPECT_EQ(model().tokenizer().Decode(spaced), " package");
  EXPECT_EQ(call->effective.bad_words_ids_size(), 3);
  EXPECT_EQ(call->effective.bad_words_size(), 0);
  request.mutable_parameters()->set_bad_words(0, std::string(200, '%'));
  ExpectRefused(*one_, request, {"bad_words[0]", "too many", "1 to 32"});
  request.mutable_parameters()->set_bad_words(0, "");
  ExpectRefused(*one_, request, {"bad_words", "1 to 256 bytes"});
}

TEST_F(PrepareTest, StopStringsComeWithTheTextsOfTokens) {
  v1::SummarizeRequest request = Summarize("text");
  EXPECT_EQ(Prepare(*one_, request, false)->jobs[0].decoding.stop_strings, nullptr);
  request.mutable_parameters()->add_stop_strings(". ");
  const auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  const StopStrings& stop = *call->jobs[0].decoding.stop_strings;
  EXPECT_THAT(stop.strings, ElementsAre(". "));
  const auto ids = model().tokenizer().Encode(" some text", {.add_special_tokens = false});
  std::string text;
  for (const int32_t id : ids->ids) text += (*stop.texts)[id];
  EXPECT_EQ(text, " some text");
  EXPECT_EQ((*stop.texts)[2], "</s>");
  request.mutable_parameters()->set_num_beams(2);
  ExpectRefused(*one_, request, {"stop_strings", "num_beams is 2"});
}

TEST_F(PrepareTest, IdsOfAnAnswersPrefixStandBehindTheStartToken) {
  v1::SummarizeRequest request = Summarize("text");
  request.mutable_prefix_token_ids()->mutable_ids()->Add(7);
  request.mutable_prefix_token_ids()->mutable_ids()->Add(2);
  request.mutable_parameters()->set_max_new_tokens(5);
  auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(call->jobs[0].decoding.prefix, ElementsAre(2, 7, 2));
  EXPECT_THAT(call->answer_prefix, ElementsAre(7, 2));
  EXPECT_EQ(call->jobs[0].decoding.max_length, 8);
  // The start token is there already.
  request.mutable_prefix_token_ids()->mutable_ids()->Set(0, 2);
  call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(call->jobs[0].decoding.prefix, ElementsAre(2, 2));
  EXPECT_THAT(call->answer_prefix, ElementsAre(2));
}

TEST_F(PrepareTest, TextOfAnAnswersPrefixStandsBehindAForcedToken) {
  v1::SummarizeRequest request = Summarize("text");
  request.set_prefix_text("word word");
  std::vector<int32_t> ids = model().tokenizer().Encode("word word", {.add_special_tokens = false})->ids;
  request.mutable_parameters()->set_forced_bos_token_id(-1);
  auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  ids.insert(ids.begin(), 0);  // <s>, as labels begin
  EXPECT_THAT(call->answer_prefix, ::testing::ElementsAreArray(ids));
  request.mutable_parameters()->set_forced_bos_token_id(4);
  call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  ids[0] = 4;
  EXPECT_THAT(call->answer_prefix, ::testing::ElementsAreArray(ids));
}

TEST_F(PrepareTest, ChecksAnswersPrefixes) {
  v1::SummarizeRequest request = Summarize("text");
  request.mutable_prefix_token_ids();
  ExpectRefused(*one_, request, {"prefix_token_ids", "empty"});
  request.mutable_prefix_token_ids()->add_ids(-1);
  ExpectRefused(*one_, request, {"prefix_token_ids.ids[0] is -1"});
  request.set_prefix_text("");
  ExpectRefused(*one_, request, {"prefix_text", "empty"});
  request.set_prefix_text("ab\xff");
  ExpectRefused(*one_, request, {"prefix_text", "2"});
  const int most = model().info().max_decoder_tokens;
  request.set_prefix_text(Words(most + 1));
  ExpectRefused(*one_, request, {"prefix_text", "more than", std::to_string(most)});
  request.mutable_prefix_token_ids()->mutable_ids()->Resize(most, 5);
  ExpectRefused(*one_, request, {"prefix_token_ids has " + std::to_string(most), std::to_string(most - 1)});
  request.mutable_prefix_token_ids()->mutable_ids()->Truncate(most - 1);
  ExpectRefused(*one_, request, {"prefix has " + std::to_string(most), "at most " + std::to_string(most - 1)});
  request.mutable_prefix_token_ids()->mutable_ids()->Truncate(4);
  request.mutable_parameters()->set_max_length(5);
  ExpectRefused(*one_, request, {"max_length is 5", "6 to " + std::to_string(most)});
  request.mutable_parameters()->clear_max_length();
  request.mutable_parameters()->set_max_new_tokens(most - 1);
  ExpectRefused(*one_, request, {"max_new_tokens is", "1 to " + std::to_string(most - 5)});
}

TEST_F(PrepareTest, TopLogprobsAreOfTheWholeRequest) {
  v1::SummarizeRequest request = Summarize("text");
  EXPECT_EQ(Prepare(*one_, request, false)->jobs[0].decoding.top_logprobs, 0);
  request.set_top_logprobs(20);
  EXPECT_EQ(Prepare(*one_, request, false)->jobs[0].decoding.top_logprobs, 20);
  for (const int wrong : {-1, 21}) {
    request.set_top_logprobs(wrong);
    ExpectRefused(*one_, request, {"top_logprobs is " + std::to_string(wrong), "0 to 20"});
  }
  // They are counted by what the answers may be at most.
  v1::GenerateQuestionsRequest questions;
  questions.set_context("Vim");
  questions.mutable_parameters()->set_num_beams(32);
  questions.mutable_parameters()->set_num_return_sequences(32);
  questions.mutable_parameters()->set_max_new_tokens(64);
  questions.set_top_logprobs(16);
  while (questions.answers_size() < 32) questions.add_answers()->set_text("Vim");
  EXPECT_TRUE(Prepare(*one_, questions, false).ok());
  questions.add_answers()->set_text("Vim");
  ExpectRefused(*one_, questions, {"top_logprobs is 16", "33 answers of 32 hypotheses", "1081344", "1048576"});
}

TEST_F(PrepareTest, TargetsStandBehindTheStartTokenAndTextsEnd) {
  v1::ScoreRequest request;
  request.set_text("text");
  request.add_targets()->set_text("word");
  request.add_targets()->mutable_token_ids()->mutable_ids()->Add(7);
  const std::vector<int32_t> word = model().tokenizer().Encode("word", {.add_special_tokens = false})->ids;
  const auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  ASSERT_EQ(call->jobs.size(), 2u);
  const PlannedJob &text = call->jobs[0], &ids = call->jobs[1];
  EXPECT_EQ(text.source, ids.source);
  EXPECT_EQ(text.source, model().tokenizer().Encode("text")->ids);
  EXPECT_EQ(text.decoding.prefix.front(), 2);
  EXPECT_EQ(text.decoding.prefix.back(), 2);
  EXPECT_TRUE(std::equal(word.rbegin(), word.rend(), text.decoding.prefix.rbegin() + 1));
  EXPECT_EQ(text.decoding.prefix.size(), static_cast<size_t>(text.decoding.score_from) + word.size() + 1);
  EXPECT_THAT(ids.decoding.prefix, ElementsAre(2, 7));
  EXPECT_EQ(ids.decoding.score_from, 1);
}

TEST_F(PrepareTest, ChecksTargets) {
  v1::ScoreRequest request;
  ExpectRefused(*one_, request, {"targets has 0", "1 to 256"});
  request.add_targets();
  ExpectRefused(*one_, request, {"input is not set"});
  request.set_text("text");
  ExpectRefused(*one_, request, {"targets[0] is not set"});
  request.mutable_targets(0)->set_text("");
  ExpectRefused(*one_, request, {"targets[0].text", "empty"});
  const int most = model().info().max_decoder_tokens;
  request.mutable_targets(0)->set_text(Words(most));
  ExpectRefused(*one_, request, {"targets[0].text has more than", std::to_string(most)});
  request.mutable_targets(0)->mutable_token_ids();
  ExpectRefused(*one_, request, {"targets[0].token_ids is empty"});
  request.mutable_targets(0)->mutable_token_ids()->mutable_ids()->Resize(most, 5);
  ExpectRefused(*one_, request, {"targets[0].token_ids has " + std::to_string(most), std::to_string(most - 1)});
  request.mutable_targets(0)->mutable_token_ids()->mutable_ids()->Truncate(1);
  request.mutable_targets(0)->mutable_token_ids()->set_ids(0, -3);
  ExpectRefused(*one_, request, {"targets[0].token_ids.ids[0] is -3"});
  request.mutable_targets(0)->mutable_token_ids()->set_ids(0, 3);
  EXPECT_TRUE(Prepare(*one_, request, false).ok());
  while (static_cast<size_t>(request.targets_size()) <= kMaxTargets) *request.add_targets() = request.targets(0);
  ExpectRefused(*one_, request, {"targets has 257"});
}

TEST_F(PrepareTest, TasksHaveTheirOwnDefaults) {
  FakeModelOptions options;
  options.summarize_defaults.set_num_beams(2);
  options.summarize_defaults.set_max_new_tokens(9);
  options.questions_defaults.set_num_beams(3);
  const ModelRegistry models(MakeFakeModels({options}));
  v1::SummarizeRequest summarize = Summarize("text");
  EXPECT_EQ(Prepare(models, summarize, false)->jobs[0].decoding.num_beams, 2);
  EXPECT_EQ(Prepare(models, summarize, false)->jobs[0].decoding.max_length, 10);
  summarize.mutable_parameters()->set_num_beams(5);
  EXPECT_EQ(Prepare(models, summarize, false)->jobs[0].decoding.num_beams, 5);
  summarize.mutable_parameters()->Clear();
  summarize.mutable_parameters()->add_reset("max_new_tokens");
  EXPECT_EQ(Prepare(models, summarize, false)->jobs[0].decoding.max_length, 21);
  EXPECT_EQ(Prepare(models, summarize, false)->effective.reset_size(), 0);
  v1::GenerateQuestionsRequest questions;
  questions.set_context("Vim");
  questions.add_answers()->set_text("Vim");
  EXPECT_EQ(Prepare(models, questions, false)->jobs[0].decoding.num_beams, 3);
  EXPECT_EQ(Prepare(models, questions, false)->jobs[0].decoding.max_length, 64);  // the checkpoint's
  v1::GenerateRequest generate;
  generate.set_text("Vim");
  EXPECT_EQ(Prepare(models, generate, false)->jobs[0].decoding.num_beams, 1);

  const v1::Model described = models.models().front().served->Describe();
  EXPECT_EQ(described.default_parameters().num_beams(), 1);
  EXPECT_EQ(described.tasks().summarize().default_parameters().num_beams(), 2);
  EXPECT_EQ(described.tasks().summarize().default_parameters().max_new_tokens(), 9);
  EXPECT_FALSE(described.tasks().summarize().default_parameters().has_max_length());
  EXPECT_EQ(described.tasks().questions().default_parameters().num_beams(), 3);
}

// The embedded model's files, but for a config.json that says more.
TEST_F(PrepareTest, SummariesTakeTheCheckpointsPrefixAndParameters) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(::testing::TempDir()) / "prepare_test.summarization";
  fs::remove_all(folder);
  fs::create_directories(folder);
  for (const auto& file : fs::directory_iterator(FakeModelOptions().path)) {
    if (file.path().filename() != "config.json") fs::create_symlink(file.path(), folder / file.path().filename());
  }
  std::ofstream(folder / "config.json") << R"({"task_specific_params": {"summarization": {
      "prefix": "summarize: ", "max_length": 40, "num_beams": 7, "length_penalty": 3.0, "diversity_penalty": -1.5}}})";
  FakeModelOptions options;
  options.path = folder.string();
  EXPECT_THAT(
      std::string(RunningModel::Create(FakeModelConfig(options), MakeFakeEngine(options), nullptr).status().message()),
      HasSubstr("summarization.diversity_penalty is -1.5"));
  options.summarize_defaults.set_diversity_penalty(0);
  options.summarize_defaults.set_length_penalty(2);
  for (const std::optional<std::string>& prefix : {std::optional<std::string>(), std::optional<std::string>("")}) {
    options.summarize_prefix = prefix;
    const ModelRegistry models(MakeFakeModels({options}));
    const auto summary = Prepare(models, Summarize("Vim"), false);
    ASSERT_TRUE(summary.ok()) << summary.status();
    EXPECT_EQ(summary->jobs[0].source, model().tokenizer().Encode(prefix ? "Vim" : "summarize: Vim")->ids);
    EXPECT_EQ(summary->jobs[0].decoding.max_length,
              40);  // the checkpoint's for the task, over its generation_config.json
    EXPECT_EQ(summary->jobs[0].decoding.num_beams, 1);         // the configuration's for all tasks
    EXPECT_EQ(summary->jobs[0].decoding.length_penalty, 2.0);  // the configuration's for the task
    EXPECT_EQ(models.models().front().served->Describe().tasks().summarize().prefix(), prefix.value_or("summarize: "));
    v1::GenerateQuestionsRequest questions;
    questions.set_context("Vim");
    questions.add_answers()->set_text("Vim");
    EXPECT_EQ(Prepare(models, questions, false)->jobs[0].decoding.max_length, 64);
    v1::GenerateRequest generate;
    generate.set_text("Vim");
    EXPECT_EQ(Prepare(models, generate, false)->jobs[0].decoding.max_length, 64);
  }
  fs::remove_all(folder);
}

TEST_F(PrepareTest, TaskDefaultsAreHeldToTheModel) {
  for (const auto task : {&FakeModelOptions::summarize_defaults, &FakeModelOptions::questions_defaults}) {
    FakeModelOptions options;
    (options.*task).add_eos_token_id(8192);
    const auto created = RunningModel::Create(FakeModelConfig(options), MakeFakeEngine(options), nullptr);
    EXPECT_THAT(std::string(created.status().message()), HasSubstr("eos_token_id is 8192; allowed is 0 to 8191"));
  }
}

TEST_F(PrepareTest, RefusesNamesInResetThatAreNone) {
  v1::SummarizeRequest request = Summarize("text");
  request.mutable_parameters()->add_reset("beams");
  ExpectRefused(*one_, request, {"reset", "beams"});
}

TEST_F(PrepareTest, StreamsHoldOneHypothesis) {
  v1::SummarizeRequest request = Summarize("text");
  request.mutable_parameters()->set_num_beams(4);
  request.mutable_parameters()->set_num_return_sequences(2);
  EXPECT_TRUE(Prepare(*one_, request, false).ok());
  ExpectRefused(*one_, request, {"num_return_sequences", "2", "1"}, true);
}

TEST_F(PrepareTest, RejectsOrTruncatesLongTexts) {
  v1::SummarizeRequest request = Summarize(Words(3000));
  const std::vector<int32_t> all = model().tokenizer().Encode(request.document())->ids;
  ASSERT_GT(all.size(), 1024u);
  ExpectRefused(*one_, request, {"document", "more than 1024 tokens"});
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  const auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  std::vector<int32_t> expected(all.begin(), all.begin() + 1023);
  expected.push_back(2);
  EXPECT_EQ(call->jobs[0].source, expected);
  EXPECT_TRUE(call->jobs[0].truncated);
  // As long as the model takes, to the token.
  v1::GenerateRequest exact;
  for (int i = 0; i < 1024; ++i) exact.mutable_token_ids()->add_ids(7);
  const auto whole = Prepare(*one_, exact, false);
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->jobs[0].source.size(), 1024u);
  EXPECT_FALSE(whole->jobs[0].truncated);
  exact.mutable_token_ids()->add_ids(8);
  exact.set_truncation(v1::TRUNCATION_TRUNCATE);
  const auto cut = Prepare(*one_, exact, false);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(cut->jobs[0].source, std::vector<int32_t>(1024, 7));
  EXPECT_TRUE(cut->jobs[0].truncated);
  request.set_truncation(static_cast<v1::Truncation>(7));
  ExpectRefused(*one_, request, {"truncation", "7"});
}

TEST_F(PrepareTest, TakesTokenIds) {
  v1::GenerateRequest request;
  request.mutable_token_ids();
  ExpectRefused(*one_, request, {"token_ids", "empty"});
  for (const int id : {0, 100, 8191, 2}) request.mutable_token_ids()->add_ids(id);
  const auto call = Prepare(*one_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(call->jobs[0].source, ElementsAre(0, 100, 8191, 2));
  request.mutable_token_ids()->set_ids(1, 8192);
  ExpectRefused(*one_, request, {"token_ids", "[1]", "8192", "8191"});
  request.mutable_token_ids()->set_ids(1, -1);
  ExpectRefused(*one_, request, {"token_ids", "[1]", "-1"});
  request.mutable_token_ids()->set_ids(1, 5);
  for (int i = 0; i < 1021; ++i) request.mutable_token_ids()->add_ids(7);
  ExpectRefused(*one_, request, {"token_ids", "1025", "1024"});
}

// A tokenizer whose truncation_side is left: the end of a text stays.
TEST_F(PrepareTest, TruncatesWhereTheTokenizerSays) {
  const std::filesystem::path model_path = FakeModelOptions().path;
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / "elserve_truncation_side";
  std::filesystem::create_directories(path);
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json"}) {
    std::filesystem::copy_file(model_path / name, path / name, std::filesystem::copy_options::overwrite_existing);
  }
  std::ifstream stream(model_path / "tokenizer_config.json");
  std::string config((std::istreambuf_iterator<char>(stream)), {});
  config.insert(config.find('{') + 1, R"("truncation_side": "left",)");
  std::ofstream(path / "tokenizer_config.json") << config;
  const ModelRegistry left(MakeFakeModels({{.path = path.string()}}));
  std::filesystem::remove_all(path);

  v1::SummarizeRequest request = Summarize(Words(3000));
  ExpectRefused(left, request, {"more than 1024 tokens", "cuts the beginning off"});
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  const std::vector<int32_t> all = model().tokenizer().Encode(request.document())->ids;
  std::vector<int32_t> expected(all.end() - 1023, all.end());
  expected.insert(expected.begin(), 0);
  EXPECT_EQ(Prepare(left, request, false)->jobs[0].source, expected);

  // Windows leave nothing out, whatever truncation would.
  request.set_truncation(v1::TRUNCATION_CHUNK);
  request.mutable_chunk()->set_overlap_tokens(0);
  const auto windows = Prepare(left, request, false);
  ASSERT_TRUE(windows.ok()) << windows.status();
  size_t tokens = 0;
  for (const PlannedJob& job : windows->jobs) tokens += job.source.size() - 2;
  EXPECT_NEAR(static_cast<double>(tokens), static_cast<double>(all.size() - 2), 3);

  v1::GenerateQuestionsRequest questions;
  questions.set_context("first " + Words(3000) + "last");
  questions.set_truncation(v1::TRUNCATION_TRUNCATE);
  questions.add_answers()->set_text("last");
  EXPECT_TRUE(Prepare(left, questions, false).ok());
  questions.add_answers()->set_text("first");
  ExpectRefused(left, questions, {"answers[1]", "the last 1022 tokens", "truncation"});
}

TEST_F(PrepareTest, SendsLogprobsWhereAskedFor) {
  v1::SummarizeRequest request = Summarize("text");
  EXPECT_FALSE(Prepare(*one_, request, false)->token_logprobs);
  request.set_token_logprobs(true);
  EXPECT_TRUE(Prepare(*one_, request, false)->token_logprobs);
}

TEST_F(PrepareTest, DescribesWhatItsModelApproximates) {
  EXPECT_FALSE(model().Describe().has_approximation());
  ModelInfo info = model().info();
  info.approximation = {.top_k = 9, .values = AttentionValues::kPruned, .threshold = 0.25f};
  info.ffn_top_k = 5;
  ServedModelConfig config;
  config.path = FakeModelOptions().path;
  const auto lossy = ServedModel::Create(config, info, nullptr);
  ASSERT_TRUE(lossy.ok()) << lossy.status();
  const v1::Model::Approximation described = (*lossy)->Describe().approximation();
  EXPECT_EQ(described.attention_top_k(), 9);
  EXPECT_EQ(described.attention_values(), "pruned");
  EXPECT_EQ(described.attention_threshold(), 0.25f);
  EXPECT_EQ(described.ffn_top_k(), 5);
  info.approximation = {};
  EXPECT_TRUE((*ServedModel::Create(config, info, nullptr))->Describe().has_approximation());
}

TEST_F(PrepareTest, DescribesItsModel) {
  const v1::Model described = model().Describe();
  EXPECT_EQ(described.name(), "fake");
  EXPECT_EQ(described.limits().max_source_tokens(), 1024);
  EXPECT_EQ(described.limits().max_decoder_tokens(), 1000);
  EXPECT_EQ(described.limits().max_tokens_reason(), "as the test says");
  EXPECT_EQ(described.limits().encoder_memory_tokens(), (1 << 20) * 64);
  EXPECT_EQ(described.limits().decoder_memory_tokens(), (1 << 20) * 16);
  EXPECT_TRUE(described.limits().encoder_cache());
  EXPECT_EQ(described.tasks().questions().format(), "highlight");
  EXPECT_EQ(described.tasks().questions().prefix(), "generate question: ");
  EXPECT_TRUE(described.limits().single_flight());
  EXPECT_EQ(described.limits().answer_cache_bytes(), 0);
  EXPECT_EQ(described.tasks().questions().highlight(), "<hl>");
  EXPECT_EQ(described.tasks().questions().spaces(), "inside");
  EXPECT_EQ(described.tasks().questions().template_(), "");
  EXPECT_EQ(described.chunk().window_tokens(), 0);
  EXPECT_EQ(described.chunk().overlap_tokens(), 32);
  EXPECT_EQ(described.chunk().join(), v1::JOIN_CONCATENATE);
  EXPECT_EQ(described.chunk().max_rounds(), 4);
  EXPECT_EQ(described.chunk().max_document_bytes(), 1 << 20);
  EXPECT_EQ(described.default_parameters().num_beams(), 1);
  EXPECT_FALSE(two_->models()[1].served->Describe().tasks().has_questions());
}

TEST_F(PrepareTest, DescribesWhatTheFormatOfQuestionsHas) {
  const auto describe = [](const QuestionFormat& format) {
    const ModelRegistry models(MakeFakeModels({{.question_format = format}}));
    v1::Model::Tasks::Questions questions = models.models().front().served->Describe().tasks().questions();
    questions.clear_default_parameters();
    return questions.ShortDebugString();
  };
  EXPECT_EQ(describe({.kind = QuestionFormat::Kind::kTemplate, .pattern = *ParseTemplate("{answer}: {context}")}),
            "format: \"template\" template: \"{answer}: {context}\"");
  EXPECT_EQ(describe({.kind = QuestionFormat::Kind::kEndToEnd, .prefix = "p", .suffix = "s", .separator = "|"}),
            "format: \"end_to_end\" prefix: \"p\" suffix: \"s\" separator: \"|\"");
  EXPECT_EQ(
      describe({.kind = QuestionFormat::Kind::kEndToEnd, .prefix = "", .item = *ParseItem("{question}, {answer}")}),
      "format: \"end_to_end\" separator: \"<sep>\" item: \"{question}, {answer}\"");
}

}  // namespace
}  // namespace elserve
