// The languages of requests, of the configuration and of GetModel, for each family that has them.
#include "server/requests/languages.h"

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/prepare.h"
#include "server/requests/tokenize.h"
#include "tests/server/requests/fake_model.h"
#include "tests/server/requests/rpc_requests.h"

namespace elserve {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Ids of the golden tokenizers, as tests/golden/tokenizer/*.json has them. "over the fox" is kText in mBART's.
constexpr int kDe = 363, kEn = 364, kFr = 368, kRo = 380;

// What a model of a golden tokenizer is configured with.
struct Setting {
  std::string tokenizer;                                   // a folder of tests/golden/tokenizer
  std::string generation = "{}";                           // generation_config.json
  std::string source_language = {}, target_language = {};  // the configuration's
  v1::DecodingParameters defaults = {};                    // the configuration's
  int max_source_tokens = 1024;
};

class LanguagesTest : public ::testing::Test {
 protected:
  LanguagesTest() : folder_(fs::path(::testing::TempDir()) / "elserve_languages_test") {}
  ~LanguagesTest() override { fs::remove_all(folder_); }

  absl::StatusOr<RunningModel> Create(const Setting& setting) {
    fs::remove_all(folder_);
    fs::copy(fs::path(ELSERVE_SOURCE_DIR) / "tests/golden/tokenizer" / setting.tokenizer, folder_);
    std::ofstream(folder_ / "config.json") << "{}";
    std::ofstream(folder_ / "generation_config.json") << setting.generation;
    FakeModelOptions options;
    options.path = folder_.string();
    options.max_source_tokens = setting.max_source_tokens;
    ServedModelConfig config = FakeModelConfig(options);
    config.source_language = setting.source_language;
    config.target_language = setting.target_language;
    config.defaults.MergeFrom(setting.defaults);
    return RunningModel::Create(config, MakeFakeEngine(options), nullptr);
  }
  void Use(const Setting& setting) {
    absl::StatusOr<RunningModel> model = Create(setting);
    ASSERT_TRUE(model.ok()) << model.status();
    std::vector<RunningModel> models;
    models.push_back(*std::move(model));
    models_ = std::make_unique<ModelRegistry>(std::move(models));
  }
  std::string LoadError(const Setting& setting) { return std::string(Create(setting).status().message()); }

  template <typename Request>
  PreparedCall Prepared(const Request& request) {
    absl::StatusOr<PreparedCall> call = Prepare(*models_, request, false);
    EXPECT_TRUE(call.ok()) << call.status();
    if (call.ok()) return *std::move(call);
    PreparedCall none;
    none.jobs.emplace_back();
    return none;
  }
  template <typename Request>
  std::string Refusal(const Request& request) {
    const absl::Status status = Prepare(*models_, request, false).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  }
  v1::Model::Languages Described() const { return models_->models().front().served->Describe().languages(); }

  const fs::path folder_;
  std::unique_ptr<ModelRegistry> models_;
};

v1::GenerateRequest Text(const std::string& source, const std::string& target) {
  v1::GenerateRequest request;
  request.set_text("over the fox");
  request.set_source_language(source);
  request.set_target_language(target);
  return request;
}

TEST_F(LanguagesTest, ATargetIsTheForcedBosOfMBart50) {
  Use({"mbart50", R"({"decoder_start_token_id": 2, "forced_bos_token_id": 364})"});
  PreparedCall call = Prepared(Text("fr_XX", "ro_RO"));
  EXPECT_THAT(call.jobs[0].source, ElementsAre(kFr, 52, 9, 201, 2));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, kRo);
  EXPECT_THAT(call.jobs[0].decoding.prefix, ElementsAre(2));
  EXPECT_EQ(call.effective.forced_bos_token_id(), kRo);
  call = Prepared(Text("", ""));
  EXPECT_THAT(call.jobs[0].source, ElementsAre(kEn, 52, 9, 201, 2));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, 364);
}

TEST_F(LanguagesTest, ATargetIsTheDecodersStartOfMBart) {
  Use({"mbart", R"({"decoder_start_token_id": 364})"});
  PreparedCall call = Prepared(Text("fr_XX", "ro_RO"));
  EXPECT_THAT(call.jobs[0].source, ElementsAre(52, 9, 201, 2, kFr));
  EXPECT_THAT(call.jobs[0].decoding.prefix, ElementsAre(kRo));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, -1);
  EXPECT_THAT(Prepared(Text("", "")).jobs[0].decoding.prefix, ElementsAre(364));
  EXPECT_THAT(Described().target(), SizeIs(25));
}

// What starts with </s> has no place for a language, unless the configuration says so.
TEST_F(LanguagesTest, ADecodersStartHasToBeALanguages) {
  Setting setting{"mbart", R"({"decoder_start_token_id": 2})"};
  Use(setting);
  EXPECT_EQ(Refusal(Text("", "ro_RO")),
            "target_language is \"ro_RO\"; the model takes none: its decoder_start_token_id is 2, no language's token");
  EXPECT_THAT(Described().target(), IsEmpty());
  EXPECT_THAT(Described().source(), SizeIs(25));
  setting.defaults.set_decoder_start_token_id(kDe);
  Use(setting);
  EXPECT_THAT(Prepared(Text("", "ro_RO")).jobs[0].decoding.prefix, ElementsAre(kRo));
  setting.defaults.Clear();
  setting.generation = "{}";
  Use(setting);
  EXPECT_THAT(Refusal(Text("", "ro_RO")), HasSubstr("its decoder_start_token_id is not set"));
}

TEST_F(LanguagesTest, ATargetStandsBeforeMariansText) {
  Use({"marian", R"({"decoder_start_token_id": 372})"});
  const PreparedCall call = Prepared(Text("", "fra"));
  EXPECT_THAT(call.jobs[0].source, ElementsAre(369, 45, 6, 175, 0));
  EXPECT_THAT(call.jobs[0].decoding.prefix, ElementsAre(372));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, -1);
  EXPECT_THAT(Prepared(Text("", "")).jobs[0].source, ElementsAre(45, 6, 175, 0));
  EXPECT_EQ(Refusal(Text("eng", "")), "source_language is \"eng\"; the model takes none");
  EXPECT_THAT(Described().source(), IsEmpty());
  EXPECT_THAT(Described().target(), ::testing::Contains("fra"));
}

TEST_F(LanguagesTest, ParametersOfARequestWinOverItsTarget) {
  Use({"mbart50", R"({"decoder_start_token_id": 2})"});
  v1::GenerateRequest request = Text("", "ro_RO");
  request.mutable_parameters()->set_forced_bos_token_id(7);
  EXPECT_EQ(Prepared(request).jobs[0].decoding.forced_bos_token_id, 7);
  request.mutable_parameters()->set_forced_bos_token_id(-1);
  EXPECT_EQ(Prepared(request).jobs[0].decoding.forced_bos_token_id, -1);
  request.mutable_parameters()->clear_forced_bos_token_id();
  request.mutable_parameters()->add_reset("forced_bos_token_id");
  EXPECT_EQ(Prepared(request).jobs[0].decoding.forced_bos_token_id, -1);
  Use({"mbart", R"({"decoder_start_token_id": 364})"});
  request = Text("", "ro_RO");
  request.mutable_parameters()->set_decoder_start_token_id(7);
  EXPECT_THAT(Prepared(request).jobs[0].decoding.prefix, ElementsAre(7));
}

// The checkpoint, the configuration's language, its defaults, the request's language: each over the one before.
TEST_F(LanguagesTest, TheConfigurationHasDefaults) {
  Setting setting{"mbart50", R"({"decoder_start_token_id": 2, "forced_bos_token_id": 364})", "fr_XX", "de_DE"};
  Use(setting);
  PreparedCall call = Prepared(Text("", ""));
  EXPECT_THAT(call.jobs[0].source, ElementsAre(kFr, 52, 9, 201, 2));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, kDe);
  call = Prepared(Text("de_DE", "ro_RO"));
  EXPECT_THAT(call.jobs[0].source, ElementsAre(kDe, 52, 9, 201, 2));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, kRo);
  EXPECT_EQ(Described().default_source(), "fr_XX");
  EXPECT_EQ(Described().default_target(), "de_DE");
  EXPECT_EQ(models_->models().front().served->Describe().default_parameters().forced_bos_token_id(), kDe);
  EXPECT_THAT(Described().source(), SizeIs(52));
  EXPECT_THAT(Described().target(), SizeIs(52));
  v1::TokenizeRequest tokenize;
  EXPECT_THAT(Tokenize(*models_, tokenize)->token_ids(), ElementsAre(kFr, 2));

  setting.defaults.set_forced_bos_token_id(7);
  Use(setting);
  EXPECT_EQ(Prepared(Text("", "")).jobs[0].decoding.forced_bos_token_id, 7);
  EXPECT_EQ(Prepared(Text("", "ro_RO")).jobs[0].decoding.forced_bos_token_id, kRo);

  Use({.tokenizer = "marian", .generation = R"({"decoder_start_token_id": 372})", .target_language = "fra"});
  EXPECT_THAT(Prepared(Text("", "")).jobs[0].source, ElementsAre(369, 45, 6, 175, 0));
  EXPECT_THAT(Prepared(Text("", "deu")).jobs[0].source, ElementsAre(370, 45, 6, 175, 0));
  EXPECT_THAT(Tokenize(*models_, tokenize)->token_ids(), ElementsAre(369, 0));
}

TEST_F(LanguagesTest, TheConfigurationIsHeldToTheTokenizer) {
  const std::string start = R"({"decoder_start_token_id": 2})";
  EXPECT_THAT(LoadError({"mbart50", start, "fr"}),
              HasSubstr("model fake: source_language is \"fr\"; the model knows ar_AR, cs_CZ"));
  EXPECT_THAT(LoadError({"mbart50", start, "", "ro"}), HasSubstr("target_language is \"ro\"; the model knows ar_AR"));
  EXPECT_THAT(LoadError({"mbart", start, "", "ro_RO"}), HasSubstr("its decoder_start_token_id is 2"));
  EXPECT_THAT(LoadError({"t5", start, "en"}), HasSubstr("source_language is \"en\"; the model takes none"));
  EXPECT_THAT(LoadError({"t5", start, "", "fr"}), HasSubstr("target_language is \"fr\"; the model takes none"));
}

TEST_F(LanguagesTest, UnknownCodesAreRefusedWithTheList) {
  Use({"mbart50", R"({"decoder_start_token_id": 2})"});
  EXPECT_THAT(Refusal(Text("fr", "")), HasSubstr("source_language is \"fr\"; the model knows ar_AR, cs_CZ, de_DE"));
  EXPECT_THAT(Refusal(Text("", "ro")), HasSubstr("target_language is \"ro\"; the model knows ar_AR, cs_CZ, de_DE"));
  // What a client sent is shown, but neither whole nor raw.
  EXPECT_THAT(Refusal(Text("", std::string(1 << 20, 'x'))), SizeIs(::testing::Lt(1000u)));
  EXPECT_THAT(Refusal(Text("", "a\né")), HasSubstr("\"a\\n\\303\\251\""));
}

TEST_F(LanguagesTest, FamiliesWithoutLanguagesRefuseTheFields) {
  Use({"t5", R"({"decoder_start_token_id": 0})"});
  EXPECT_EQ(Refusal(Text("en", "")), "source_language is \"en\"; the model takes none");
  EXPECT_EQ(Refusal(Text("", "fr")), "target_language is \"fr\"; the model takes none");
  EXPECT_THAT(Described().source(), IsEmpty());
  EXPECT_THAT(Described().target(), IsEmpty());
}

TEST_F(LanguagesTest, AllRequestsHaveThem) {
  Use({"mbart50", R"({"decoder_start_token_id": 2})"});
  v1::SummarizeRequest summarize;
  summarize.set_document("over the fox");
  summarize.set_source_language("fr_XX");
  summarize.set_target_language("ro_RO");
  PreparedCall call = Prepared(summarize);
  EXPECT_THAT(call.jobs[0].source, ElementsAre(kFr, 52, 9, 201, 2));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, kRo);
  v1::GenerateQuestionsRequest questions;
  questions.set_context("over the fox");
  questions.add_answers()->set_text("fox");
  questions.set_source_language("fr_XX");
  questions.set_target_language("ro_RO");
  call = Prepared(questions);
  EXPECT_EQ(call.jobs[0].source.front(), kFr);
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, kRo);
}

// People count before they send: the tokens, and the refusals, are those of the request.
TEST_F(LanguagesTest, TokenizeCountsWhatARequestTakes) {
  const std::pair<const char*, const char*> models[] = {{"mbart50", "2"},  {"mbart", "364"},    {"mbart", "2"},
                                                        {"marian", "372"}, {"marian-bpe", "0"}, {"t5", "0"}};
  for (const auto& [tokenizer, start] : models) {
    Use({tokenizer, absl::StrCat("{\"decoder_start_token_id\": ", start, "}")});
    for (const auto& [source, target] : std::vector<std::pair<std::string, std::string>>{
             {"", ""}, {"fr_XX", ""}, {"", "ro_RO"}, {"fr_XX", "ro_RO"}, {"", "fra"}, {"eng", ""}, {"", "xx"}}) {
      SCOPED_TRACE(absl::StrCat(tokenizer, " ", start, " ", source, " ", target));
      v1::TokenizeRequest tokenize;
      tokenize.set_text(Text("", "").text());
      tokenize.set_source_language(source);
      tokenize.set_target_language(target);
      const auto tokens = Tokenize(*models_, tokenize);
      const auto call = Prepare(*models_, Text(source, target), false);
      EXPECT_EQ(tokens.status(), call.status());
      tokenize.set_add_special_tokens(false);
      EXPECT_EQ(Tokenize(*models_, tokenize).status(), call.status());
      if (!call.ok() || !tokens.ok()) continue;
      EXPECT_THAT(tokens->token_ids(), ElementsAreArray(call->jobs[0].source));
    }
  }
}

// Nothing is put around them, so what would stand there is refused; what the decoder is told is not.
TEST_F(LanguagesTest, TokenIdsHaveNoLanguageOfTheirOwn) {
  Use({"mbart50", R"({"decoder_start_token_id": 2})", "fr_XX", ""});
  v1::GenerateRequest request;
  for (const int id : {kEn, 52, 2}) request.mutable_token_ids()->add_ids(id);
  request.set_target_language("ro_RO");
  const PreparedCall call = Prepared(request);
  EXPECT_THAT(call.jobs[0].source, ElementsAre(kEn, 52, 2));
  EXPECT_EQ(call.jobs[0].decoding.forced_bos_token_id, kRo);
  request.set_source_language("en_XX");
  EXPECT_THAT(Refusal(request), HasSubstr("source_language is \"en_XX\"; token_ids allow none"));
  Use({.tokenizer = "marian", .generation = R"({"decoder_start_token_id": 372})", .target_language = "fra"});
  request.clear_source_language();
  request.set_target_language("deu");
  EXPECT_THAT(Refusal(request), HasSubstr("target_language is \"deu\"; token_ids allow none"));
  request.clear_target_language();
  EXPECT_THAT(Prepared(request).jobs[0].source, ElementsAre(kEn, 52, 2));
}

// The token before the text is one that truncation has to leave room for.
TEST_F(LanguagesTest, TruncationCountsTheTokenBeforeTheText) {
  v1::GenerateQuestionsRequest request;
  request.set_context("over the fox over the fox over the fox");
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  request.add_answers()->mutable_span()->set_end(4);
  Setting setting{"marian", R"({"decoder_start_token_id": 372})"};
  // The least that leaves the answer whole; a language takes one more.
  const auto least = [&] {
    for (setting.max_source_tokens = 2; setting.max_source_tokens < 200; ++setting.max_source_tokens) {
      Use(setting);
      if (Prepare(*models_, request, false).ok()) break;
    }
    return setting.max_source_tokens;
  };
  const int without = least();
  EXPECT_LT(without, 200);
  EXPECT_GT(without, 3);
  request.set_target_language("fra");
  EXPECT_EQ(least(), without + 1);
}

// A language's token stands before every window, and counts.
TEST_F(LanguagesTest, EachWindowHasItsLanguages) {
  v1::SummarizeRequest request;
  std::string document;
  for (int i = 0; i < 40; ++i) document += "over the fox. ";
  request.set_document(document);
  request.set_truncation(v1::TRUNCATION_CHUNK);
  request.mutable_chunk()->set_window_tokens(30);
  request.set_target_language("fra");
  Use({"marian", R"({"decoder_start_token_id": 372})"});
  const std::vector<int32_t> one = Prepared(Text("", "fra")).jobs[0].source;
  for (const PlannedJob& job : Prepared(request).jobs) {
    EXPECT_EQ(job.source.front(), one.front());
    EXPECT_EQ(job.source.back(), one.back());
    EXPECT_LE(job.source.size(), 30u);
    EXPECT_GT(job.source.size(), 10u);
  }
  Use({"mbart50", R"({"decoder_start_token_id": 2})"});
  request.set_source_language("fr_XX");
  request.set_target_language("ro_RO");
  const PreparedCall call = Prepared(request);
  ASSERT_GT(call.jobs.size(), 3u);
  for (const PlannedJob& job : call.jobs) {
    EXPECT_EQ(job.source.front(), kFr);
    EXPECT_EQ(job.decoding.forced_bos_token_id, kRo);
  }
}

}  // namespace
}  // namespace elserve
