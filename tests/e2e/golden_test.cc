// A client gets what transformers answers, token for token in float32: every golden case through gRPC, in both forms of
// attention, dozens in flight at once, all models in one process.
#include <grpcpp/client_context.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/blocking_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"
#include "tests/golden/golden_cases.h"
#include "tests/test_directory.h"

namespace elserve {
namespace {

using nlohmann::json;

constexpr auto kLongestCall = std::chrono::seconds(300);

// A golden file and the form of attention that its checkpoint is served in.
struct Served {
  std::string file;
  std::string attention;  // "el", "kv"
  size_t cases;           // the file has at least so many

  std::string model() const { return file + "-" + attention; }
};

void PrintTo(const Served& served, std::ostream* out) { *out << served.model(); }

std::string NameOf(const testing::TestParamInfo<Served>& info) {
  std::string name = info.param.model();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// Each file in both forms.
template <typename Files>
std::vector<Served> InBothForms(const Files& files, size_t cases) {
  std::vector<Served> all;
  for (const char* attention : {"el", "kv"}) {
    for (const char* file : files) all.push_back({file, attention, cases});
  }
  return all;
}

std::vector<Served> FamilyFiles() {
  std::vector<Served> all = InBothForms(kFamilyGoldenFiles, 95);
  const std::vector<Served> decoders = InBothForms(kDecoderOnlyGoldenFiles, 95);
  all.insert(all.end(), decoders.begin(), decoders.end());
  return all;
}
std::vector<Served> SynopsisFiles() { return InBothForms(std::array{kSynopsisGoldenFile}, 60); }

std::vector<Served> AllFiles() {
  std::vector<Served> all = InBothForms(kTinyGoldenFiles, 200);
  for (const std::vector<Served>& more : {InBothForms(kFavorGoldenFiles, 150), FamilyFiles(), SynopsisFiles()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

// A checkpoint with a tokenizer's files beside its own, as models are served: links in a folder under `root`.
std::string Assembled(const GoldenFile& golden, const std::filesystem::path& root) {
  if (golden.tokenizer.empty()) return golden.checkpoint;
  const std::filesystem::path folder = root / std::filesystem::path(golden.checkpoint).filename();
  if (!std::filesystem::create_directory(folder)) return folder;  // for the other form of attention
  for (const std::string& from : {golden.checkpoint, golden.tokenizer}) {
    for (const auto& file : std::filesystem::directory_iterator(from)) {
      const std::filesystem::path link = folder / file.path().filename();
      // A tokenizer's config.json names but the model's type.
      if (!std::filesystem::exists(link)) std::filesystem::create_symlink(file.path(), link);
    }
  }
  return folder;
}

// Every parameter is set: what a case does not name is off in it, whatever the checkpoint says.
v1::DecodingParameters ToParameters(const json& golden) {
  v1::DecodingParameters parameters;
  parameters.set_num_beams(golden.value("num_beams", 1));
  parameters.set_num_return_sequences(golden.value("num_return_sequences", 1));
  parameters.set_length_penalty(golden.value("length_penalty", 1.0));
  const json stopping = golden.value("early_stopping", json(false));
  parameters.set_early_stopping(stopping == "never" ? v1::EARLY_STOPPING_NEVER
                                : stopping == true  ? v1::EARLY_STOPPING_TRUE
                                                    : v1::EARLY_STOPPING_FALSE);
  if (golden.contains("max_new_tokens")) parameters.set_max_new_tokens(golden["max_new_tokens"]);
  if (golden.contains("max_length")) parameters.set_max_length(golden["max_length"]);
  // transformers' own default.
  if (!parameters.has_max_new_tokens() && !parameters.has_max_length()) parameters.set_max_new_tokens(20);
  parameters.set_min_length(golden.value("min_length", 0));
  if (golden.contains("min_new_tokens")) parameters.set_min_new_tokens(golden["min_new_tokens"]);
  parameters.set_no_repeat_ngram_size(golden.value("no_repeat_ngram_size", 0));
  parameters.set_forced_bos_token_id(golden.value("forced_bos_token_id", -1));
  if (golden.contains("decoder_start_token_id")) {
    parameters.set_decoder_start_token_id(golden["decoder_start_token_id"]);
  }
  const auto set_ids = [&golden](const char* name, auto* field) {
    const auto ids = golden.value(name, std::vector<int32_t>());
    field->Assign(ids.begin(), ids.end());
    if (ids.empty()) field->Add(-1);
  };
  set_ids("forced_eos_token_id", parameters.mutable_forced_eos_token_id());
  set_ids("eos_token_id", parameters.mutable_eos_token_id());
  for (const json& word : golden.value("bad_words", json::array())) parameters.add_bad_words(word);
  for (const json& text : golden.value("stop_strings", json::array({""}))) parameters.add_stop_strings(text);
  // Of a case with bad_words they are what the server makes of these.
  const json no_words = json::array({json::array({-1})});
  for (const json& word : golden.contains("bad_words") ? no_words : golden.value("bad_words_ids", no_words)) {
    auto* ids = parameters.add_bad_words_ids()->mutable_ids();
    for (const int32_t id : word) ids->Add(id);
  }
  parameters.set_renormalize_logits(golden.value("renormalize_logits", false));
  parameters.set_repetition_penalty(golden.value("repetition_penalty", 1.0));
  parameters.set_encoder_repetition_penalty(golden.value("encoder_repetition_penalty", 1.0));
  parameters.set_encoder_no_repeat_ngram_size(golden.value("encoder_no_repeat_ngram_size", 0));
  parameters.set_remove_invalid_values(golden.value("remove_invalid_values", false));
  parameters.set_num_beam_groups(golden.value("num_beam_groups", 1));
  parameters.set_diversity_penalty(golden.value("diversity_penalty", 0.0));
  parameters.set_pad_token_id(golden.value("pad_token_id", -1));
  parameters.set_do_sample(golden.value("do_sample", false));
  if (parameters.do_sample()) {
    parameters.set_temperature(golden.value("temperature", 1.0));
    parameters.set_top_h(golden.value("top_h", 0.0));
    parameters.set_top_k(golden.value("top_k", 50));
    parameters.set_top_p(golden.value("top_p", 1.0));
    parameters.set_min_p(golden.value("min_p", 0.0));
    parameters.set_typical_p(golden.value("typical_p", 1.0));
    parameters.set_epsilon_cutoff(golden.value("epsilon_cutoff", 0.0));
    parameters.set_eta_cutoff(golden.value("eta_cutoff", 0.0));
  }
  for (const json& bias : golden.value("sequence_bias", json::array({{{-1}, 0}}))) {
    v1::SequenceBias* out = parameters.add_sequence_bias();
    for (const int32_t id : bias.at(0)) out->add_ids(id);
    out->set_bias(bias.at(1));
  }
  const json decay = golden.value("exponential_decay_length_penalty", json::array({0, 1}));
  parameters.mutable_exponential_decay_length_penalty()->set_start_index(decay.at(0));
  parameters.mutable_exponential_decay_length_penalty()->set_factor(decay.at(1));
  set_ids("suppress_tokens", parameters.mutable_suppress_tokens());
  set_ids("begin_suppress_tokens", parameters.mutable_begin_suppress_tokens());
  return parameters;
}

// What the checkpoint itself sets for `task` of its task_specific_params, or for any, as a golden case would write it.
json OwnParameters(const std::string& checkpoint, const std::string& task = "") {
  json own = json::parse(std::ifstream(checkpoint + "/generation_config.json"));
  const json config = json::parse(std::ifstream(checkpoint + "/config.json"));
  if (const json tasks = config.value("task_specific_params", json::object()); tasks.contains(task)) {
    own.update(tasks[task]);
  }
  for (const char* name : {"bos_token_id", "pad_token_id", "transformers_version", "prefix"}) own.erase(name);
  for (const char* name : {"eos_token_id", "forced_eos_token_id"}) {
    if (own.contains(name) && !own[name].is_array()) own[name] = json::array({own[name]});
  }
  return own;
}

// What a request gives: of a decoder-only model the prompt.
const std::vector<int32_t>& SourceOf(const GoldenCase& golden) {
  return golden.source.empty() ? golden.decoding.prefix : golden.source;
}

std::vector<TokenLogprob> AlternativesOf(const v1::Hypothesis& answer) {
  std::vector<TokenLogprob> alternatives;
  for (const v1::TopLogprobs& place : answer.top_logprobs()) {
    for (const v1::TokenLogprob& token : place.tokens()) alternatives.push_back({token.token_id(), token.logprob()});
  }
  return alternatives;
}

std::optional<FinishReason> ReasonOf(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_EOS:
      return FinishReason::kEos;
    case v1::FINISH_REASON_LENGTH:
      return FinishReason::kLength;
    case v1::FINISH_REASON_STOP_STRING:
      return FinishReason::kStopString;
    default:
      return std::nullopt;
  }
}

// What is wrong with the answers in a response; empty if nothing is.
std::string Difference(const GoldenCase& golden, const google::protobuf::RepeatedPtrField<v1::Hypothesis>& answers,
                       const v1::Usage& usage) {
  std::vector<Hypothesis> got;
  for (const v1::Hypothesis& answer : answers) {
    const std::optional<FinishReason> reason = ReasonOf(answer.finish_reason());
    if (!reason) return absl::StrCat(golden.name, ": ended by ", v1::FinishReason_Name(answer.finish_reason()));
    // The answer begins with what the request had it begin with, and the golden one follows; it has no prompt.
    const std::span<const int32_t> prefix =
        golden.source.empty() ? std::span<const int32_t>() : std::span(golden.decoding.prefix).subspan(1);
    const std::vector<int32_t> tokens(answer.token_ids().begin(), answer.token_ids().end());
    if (tokens.size() < prefix.size() || !std::equal(prefix.begin(), prefix.end(), tokens.begin())) {
      return absl::StrCat(golden.name, ": begins with ", absl::StrJoin(tokens, " "));
    }
    got.push_back({.tokens = {tokens.begin() + static_cast<std::ptrdiff_t>(prefix.size()), tokens.end()},
                   .logprobs = {answer.token_logprobs().begin(), answer.token_logprobs().end()},
                   .alternatives = AlternativesOf(answer),
                   .score = answer.score(),
                   .reason = *reason});
  }
  if (std::string difference = DifferenceFromGolden(golden, got); !difference.empty()) return difference;
  if (usage.source_tokens() != static_cast<int>(SourceOf(golden).size())) {
    return absl::StrCat(golden.name, ": read ", usage.source_tokens(), " tokens");
  }
  for (size_t i = 0; golden.text && i < got.size(); ++i) {
    const std::string& text = answers[static_cast<int>(i)].text();
    if (text != golden.text->answers[i]) {
      return absl::StrCat(golden.name, ": text is '", text, "', transformers' '", golden.text->answers[i], "'");
    }
  }
  return "";
}

std::string Difference(const GoldenCase& golden, const v1::GenerateResponse& response) {
  return Difference(golden, response.hypotheses(), response.usage());
}

// Of the two questions that AsksAsTransformers asks for one answer.
std::string Difference(const GoldenCase& golden, const v1::GenerateQuestionsResponse& response) {
  if (response.questions_size() != 2) return absl::StrCat(golden.name, ": ", response.questions_size(), " questions");
  for (const v1::Question& question : response.questions()) {
    const v1::Answer& answer = question.answer();
    if (answer.text() != golden.text->answer || answer.span().begin() != golden.text->span_begin ||
        answer.span().end() != golden.text->span_end) {
      return absl::StrCat(golden.name, ": asked for ", question.ShortDebugString());
    }
    std::string difference = Difference(golden, question.hypotheses(), question.usage());
    if (!difference.empty()) return difference;
  }
  return "";
}

// The answers of a case once more, as what is to be scored.
std::string Difference(GoldenCase golden, const v1::ScoreResponse& response) {
  for (Hypothesis& answer : golden.answers) answer.alternatives.clear();
  std::vector<Hypothesis> got;
  for (int i = 0; i < response.scores_size(); ++i) {
    const v1::TargetScore& score = response.scores(i);
    const auto count = static_cast<float>(score.token_ids_size());
    if (std::abs(score.mean() * count - score.sum()) > 1e-3f * count) return golden.name + ": mean is not sum / tokens";
    // What generate() ranks by is no sum of log-probabilities where rules changed them.
    got.push_back({.tokens = {score.token_ids().begin(), score.token_ids().end()},
                   .logprobs = {score.token_logprobs().begin(), score.token_logprobs().end()},
                   .alternatives = {},
                   .score = golden.answers[static_cast<size_t>(i)].score,
                   .reason = golden.answers[static_cast<size_t>(i)].reason});
  }
  return DifferenceFromGolden(golden, got);
}

// Requests of one kind, each with the golden case that has its answer; all of them in flight at once.
template <typename Request, typename Response>
class Calls {
 public:
  void Add(const GoldenCase& golden, Request request) {
    calls_.emplace_back();
    calls_.back().golden = &golden;
    calls_.back().request = std::move(request);
  }
  size_t size() const { return calls_.size(); }

  // Sends them in a random order by `start(call's context, request, response, done)` and waits. Returns what was wrong.
  template <typename Start>
  std::vector<std::string> Run(const Start& start) {
    std::vector<One*> order;
    for (One& call : calls_) order.push_back(&call);
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
    absl::BlockingCounter left(static_cast<int>(order.size()));
    for (One* call : order) {
      call->context.set_deadline(std::chrono::system_clock::now() + kLongestCall);
      start(&call->context, &call->request, &call->response, [call, &left](grpc::Status status) {
        call->status = std::move(status);
        left.DecrementCount();
      });
    }
    left.Wait();
    std::vector<std::string> wrong;
    for (const One& call : calls_) {
      std::string difference = call.status.ok() ? Difference(*call.golden, call.response)
                                                : call.golden->name + ": " + call.status.error_message();
      if (!difference.empty()) wrong.push_back(std::move(difference));
    }
    return wrong;
  }

 private:
  struct One {
    const GoldenCase* golden = nullptr;
    Request request;
    Response response;
    grpc::ClientContext context;
    grpc::Status status{grpc::UNKNOWN, "never ended"};
  };
  std::deque<One> calls_;  // a context does not move
};

class GoldenTest : public testing::TestWithParam<Served> {
 protected:
  static void SetUpTestSuite() {
    checkpoints_ = std::make_unique<TestDirectory>();
    ServerSetup setup;
    for (const Served& served : AllFiles()) {
      const bool synopsis = served.file == kSynopsisGoldenFile;
      setup.entries.push_back(absl::StrCat(
          "{name: ", served.model(), ", path: \"", Assembled(ReadGoldenFile(served.file), checkpoints_->path()), "\"",
          ", device: cpu, precision: float32, attention: ", served.attention,
          // Less than all cases together need: they wait for each other's memory.
          ", memory: ", synopsis ? "256MiB" : "12MiB", ", max_rows: 256, encode_tokens_per_step: 256",
          synopsis ? ", tasks: {summarize: {prefix: \"\"}, questions: {format: highlight, "
                     "prefix: \"generate question: \", highlight: \"<hl>\"}}}"
                   : "}"));
    }
    server_ = std::make_unique<ServerUnderTest>(setup);
  }
  static void TearDownTestSuite() {
    server_.reset();
    checkpoints_.reset();
  }

  void SetUp() override {
    file_ = ReadGoldenFile(GetParam().file);
    ASSERT_GE(file_.cases.size(), GetParam().cases);
    grpc::ClientContext context;
    v1::GetModelRequest request;
    request.set_model(GetParam().model());
    v1::Model model;
    ASSERT_TRUE(server_->stub().GetModel(&context, request, &model).ok());
    ASSERT_EQ(model.attention(), GetParam().attention);
    ASSERT_EQ(model.precision(), "float32");
    ASSERT_EQ(model.decoder_only(), file_.decoder_only);
    ASSERT_EQ(model.favor_features(), GetParam().file == "bart-favor" ? 70 : 0);
  }

  static std::unique_ptr<TestDirectory> checkpoints_;
  static std::unique_ptr<ServerUnderTest> server_;
  GoldenFile file_;
};

std::unique_ptr<TestDirectory> GoldenTest::checkpoints_;
std::unique_ptr<ServerUnderTest> GoldenTest::server_;

TEST_P(GoldenTest, GeneratesAsTransformers) {
  const json own = OwnParameters(file_.checkpoint);
  Calls<v1::GenerateRequest, v1::GenerateResponse> calls;
  for (const GoldenCase& golden : file_.cases) {
    v1::GenerateRequest request;
    request.set_model(GetParam().model());
    request.mutable_token_ids()->mutable_ids()->Assign(SourceOf(golden).begin(), SourceOf(golden).end());
    request.set_token_logprobs(true);
    request.set_top_logprobs(golden.decoding.top_logprobs);
    if (!golden.prefix.empty()) {
      request.mutable_prefix_token_ids()->mutable_ids()->Assign(golden.prefix.begin(), golden.prefix.end());
    }
    // What the checkpoint says is what a request that says nothing gets.
    if (golden.parameters == own) calls.Add(golden, request);
    *request.mutable_parameters() = ToParameters(golden.parameters);
    calls.Add(golden, std::move(request));
  }
  EXPECT_GE(calls.size(), file_.cases.size() + 1);
  const std::vector<std::string> wrong =
      calls.Run([this](auto... arguments) { server_->stub().async()->Generate(std::move(arguments)...); });
  EXPECT_TRUE(wrong.empty()) << wrong.size() << " of " << calls.size() << " differ:\n" << absl::StrJoin(wrong, "\n");
  EXPECT_GE(server_->Metric("elserve_sequences_in_flight_peak", absl::StrCat("\"", GetParam().model(), "\"")), 24);
}

// One source for all targets of a request.
TEST_P(GoldenTest, ScoresAsTransformers) {
  const json own = OwnParameters(file_.checkpoint);
  Calls<v1::ScoreRequest, v1::ScoreResponse> calls;
  for (const GoldenCase& golden : file_.cases) {
    // Targets begin behind the checkpoint's own start token.
    const bool starts =
        golden.parameters.value("decoder_start_token_id", -1) == own.value("decoder_start_token_id", -1);
    if (!starts || !golden.prefix.empty()) continue;
    v1::ScoreRequest request;
    request.set_model(GetParam().model());
    request.mutable_token_ids()->mutable_ids()->Assign(SourceOf(golden).begin(), SourceOf(golden).end());
    for (const Hypothesis& answer : golden.answers) {
      request.add_targets()->mutable_token_ids()->mutable_ids()->Assign(answer.tokens.begin(), answer.tokens.end());
    }
    calls.Add(golden, std::move(request));
  }
  EXPECT_GE(calls.size(), 50u);
  const std::vector<std::string> wrong =
      calls.Run([this](auto... arguments) { server_->stub().async()->Score(std::move(arguments)...); });
  EXPECT_TRUE(wrong.empty()) << wrong.size() << " of " << calls.size() << " differ:\n" << absl::StrJoin(wrong, "\n");
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest, testing::ValuesIn(AllFiles()), NameOf);

// The cases with text, through the rpcs that make the prompt themselves.
class GoldenTextTest : public GoldenTest {
 protected:
  std::vector<const GoldenCase*> Cases(bool question) const {
    std::vector<const GoldenCase*> cases;
    for (const GoldenCase& golden : file_.cases) {
      if (golden.text && golden.text->question == question) cases.push_back(&golden);
    }
    return cases;
  }
};

TEST_P(GoldenTextTest, SummarizesAsTransformers) {
  const json own = OwnParameters(file_.checkpoint, "summarization");
  Calls<v1::SummarizeRequest, v1::GenerateResponse> calls;
  for (const GoldenCase* golden : Cases(/*question=*/false)) {
    v1::SummarizeRequest request;
    request.set_model(GetParam().model());
    request.set_document(golden->text->document);
    request.set_token_logprobs(true);
    request.set_top_logprobs(golden->decoding.top_logprobs);
    if (!golden->text->prefix.empty()) request.set_prefix_text(golden->text->prefix);
    request.set_source_language(golden->text->source_language);
    request.set_target_language(golden->text->target_language);
    // A language sets the rest itself.
    const bool languages = !golden->text->source_language.empty() || !golden->text->target_language.empty();
    if (!languages && golden->parameters != own) *request.mutable_parameters() = ToParameters(golden->parameters);
    calls.Add(*golden, std::move(request));
  }
  EXPECT_GE(calls.size(), GetParam().file == kSynopsisGoldenFile ? 40u : 15u);
  const std::vector<std::string> wrong =
      calls.Run([this](auto... arguments) { server_->stub().async()->Summarize(std::move(arguments)...); });
  EXPECT_TRUE(wrong.empty()) << wrong.size() << " of " << calls.size() << " differ:\n" << absl::StrJoin(wrong, "\n");
}

// A target's text is what an answer would begin with, and an end behind it.
TEST_P(GoldenTextTest, ScoresTextsAsTransformers) {
  const json own = OwnParameters(file_.checkpoint);
  int scored = 0;
  for (const GoldenCase* golden : Cases(/*question=*/false)) {
    const GoldenCase::Text& text = *golden->text;
    // What stands before a target is the checkpoint's to say.
    const bool forced = golden->parameters.value("forced_bos_token_id", -1) != own.value("forced_bos_token_id", -1);
    if (text.target.empty() || forced) continue;
    v1::ScoreRequest request;
    request.set_model(GetParam().model());
    request.set_text(text.prompt);
    request.add_targets()->set_text(text.target);
    grpc::ClientContext context;
    v1::ScoreResponse response;
    const grpc::Status status = server_->stub().Score(&context, request, &response);
    ASSERT_TRUE(status.ok()) << golden->name << ": " << status.error_message();
    ASSERT_EQ(response.scores_size(), 1);
    const v1::TargetScore& score = response.scores(0);
    const std::vector<float> logprobs(score.token_logprobs().begin(), score.token_logprobs().end());
    EXPECT_THAT(logprobs, testing::Pointwise(testing::FloatNear(1e-3f), text.target_logprobs)) << golden->name;
    EXPECT_EQ(response.source_tokens(), static_cast<int>(SourceOf(*golden).size())) << golden->name;
    ++scored;
  }
  EXPECT_GE(scored, 3);
}

class GoldenQuestionTest : public GoldenTextTest {};

// Each answer given twice: by its text and by its place.
TEST_P(GoldenQuestionTest, AsksAsTransformers) {
  Calls<v1::GenerateQuestionsRequest, v1::GenerateQuestionsResponse> calls;
  for (const GoldenCase* golden : Cases(/*question=*/true)) {
    const GoldenCase::Text& text = *golden->text;
    v1::GenerateQuestionsRequest request;
    request.set_model(GetParam().model());
    request.set_context(text.document);
    request.add_answers()->set_text(text.answer);
    v1::Span* span = request.add_answers()->mutable_span();
    span->set_begin(text.span_begin);
    span->set_end(text.span_end);
    *request.mutable_parameters() = ToParameters(golden->parameters);
    request.set_token_logprobs(true);
    request.set_top_logprobs(golden->decoding.top_logprobs);
    calls.Add(*golden, std::move(request));
  }
  EXPECT_GE(calls.size(), 20u);
  const std::vector<std::string> wrong =
      calls.Run([this](auto... arguments) { server_->stub().async()->GenerateQuestions(std::move(arguments)...); });
  EXPECT_TRUE(wrong.empty()) << wrong.size() << " of " << calls.size() << " differ:\n" << absl::StrJoin(wrong, "\n");
}

INSTANTIATE_TEST_SUITE_P(Synopsis, GoldenTextTest, testing::ValuesIn(SynopsisFiles()), NameOf);
INSTANTIATE_TEST_SUITE_P(Families, GoldenTextTest, testing::ValuesIn(FamilyFiles()), NameOf);
INSTANTIATE_TEST_SUITE_P(Synopsis, GoldenQuestionTest, testing::ValuesIn(SynopsisFiles()), NameOf);

}  // namespace
}  // namespace elserve
