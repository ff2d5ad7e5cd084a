// Of a model without an encoder the request's text is the prompt: it becomes the decoder's prefix, lengths count it,
// and what is said of sources is refused.
#include <filesystem>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/prepare.h"
#include "tests/server/requests/fake_model.h"
#include "tests/server/requests/rpc_requests.h"
#include "tests/test_directory.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Ids = std::vector<int32_t>;

constexpr int kPositions = 96;

class DecoderOnlyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // The tokenizer's own tokenizer_config.json, and the checkpoint's two files of parameters.
    const std::filesystem::path golden = ELSERVE_SOURCE_DIR "/tests/golden";
    for (const char* from : {"checkpoints/gpt2-hub", "tokenizer/gpt2"}) {
      for (const auto& file : std::filesystem::directory_iterator(golden / from)) {
        std::filesystem::create_symlink(file.path(), std::filesystem::path(directory_.path()) / file.path().filename());
      }
    }
    options_ = {
        .path = directory_.path(), .max_decoder_tokens = kPositions, .decoder_only_vocab = 400, .questions = false};
  }

  const ModelRegistry& models() {
    if (!models_) models_.emplace(MakeFakeModels({options_}));
    return *models_;
  }
  const Tokenizer& tokenizer() { return models().models().front().served->tokenizer(); }
  Ids IdsOf(const std::string& text) { return tokenizer().Encode(text)->ids; }

  template <typename Request>
  PreparedCall Prepared(const Request& request) {
    absl::StatusOr<PreparedCall> call = Prepare(models(), request, /*stream=*/false);
    EXPECT_TRUE(call.ok()) << call.status();
    if (call.ok()) return *std::move(call);
    PreparedCall none;
    none.jobs.emplace_back();
    return none;
  }
  template <typename Request>
  std::string Refused(const Request& request) {
    return std::string(Prepare(models(), request, /*stream=*/false).status().message());
  }

  TestDirectory directory_;
  FakeModelOptions options_;
  std::optional<ModelRegistry> models_;
};

v1::SummarizeRequest Summarize(const std::string& document) {
  v1::SummarizeRequest request;
  request.set_document(document);
  return request;
}
v1::GenerateRequest Generate(int tokens) {
  v1::GenerateRequest request;
  Ids ids(static_cast<size_t>(tokens));
  std::iota(ids.begin(), ids.end(), 0);
  request.mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
  return request;
}

TEST_F(DecoderOnlyTest, ThePromptIsThePrefixAndLengthsCountIt) {
  PreparedCall call = Prepared(Generate(7));
  ASSERT_EQ(call.jobs.size(), 1u);
  EXPECT_THAT(call.jobs[0].source, IsEmpty());
  EXPECT_FALSE(call.jobs[0].truncated);
  EXPECT_THAT(call.jobs[0].decoding.prefix, ElementsAre(0, 1, 2, 3, 4, 5, 6));
  EXPECT_THAT(call.answer_prefix, IsEmpty());
  EXPECT_EQ(call.jobs[0].decoding.max_length, 50);  // the checkpoint's
  EXPECT_EQ(call.effective.max_new_tokens(), 43);
  EXPECT_FALSE(call.effective.has_decoder_start_token_id());
  v1::GenerateRequest request = Generate(7);
  request.mutable_parameters()->set_max_new_tokens(5);
  request.mutable_parameters()->set_min_new_tokens(3);
  call = Prepared(request);
  EXPECT_EQ(call.jobs[0].decoding.max_length, 12);
  EXPECT_EQ(call.jobs[0].decoding.min_length, 10);
}

TEST_F(DecoderOnlyTest, ASummarysPromptEndsWithTlDr) {
  EXPECT_EQ(Prepared(Summarize("the fox")).jobs[0].decoding.prefix, IdsOf("the fox\nTL;DR:"));
  const v1::Model model = models().models().front().served->Describe();
  EXPECT_TRUE(model.decoder_only());
  EXPECT_EQ(model.tasks().summarize().suffix(), "\nTL;DR:");
  models_.reset();
  options_.summarize_prefix = "a: ";
  options_.summarize_suffix = "";
  EXPECT_EQ(Prepared(Summarize("the fox")).jobs[0].decoding.prefix, IdsOf("a: the fox"));
}

// Errors name what the answer takes of the positions.
TEST_F(DecoderOnlyTest, APromptLeavesRoomForTheAnswer) {
  EXPECT_EQ(Prepared(Generate(49)).jobs[0].decoding.prefix.size(), 49u);
  EXPECT_THAT(Refused(Generate(50)),
              HasSubstr("token_ids has 50 tokens; model fake takes at most 49 before one more of max_length, 50"));
  v1::GenerateRequest request = Generate(87);
  request.mutable_parameters()->set_max_new_tokens(10);
  EXPECT_THAT(Refused(request), HasSubstr("token_ids has 87 tokens; model fake takes at most 86 before max_new_tokens, "
                                          "10, of max_decoder_tokens, 96"));
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  PreparedCall call = Prepared(request);
  EXPECT_EQ(call.jobs[0].decoding.prefix.size(), 86u);
  EXPECT_EQ(call.jobs[0].decoding.max_length, 96);
  EXPECT_TRUE(call.jobs[0].truncated);
  // No length is set: 20 new ones, or as many as there is room for.
  request = Generate(80);
  request.mutable_parameters()->mutable_reset()->Add("max_length");
  EXPECT_EQ(Prepared(request).jobs[0].decoding.max_length, 96);
}

TEST_F(DecoderOnlyTest, TruncationLeavesTheSuffix) {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "the fox ";
  v1::SummarizeRequest request = Summarize(text);
  EXPECT_THAT(Refused(request), HasSubstr("document has more than 49 tokens; model fake takes at most 49"));
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  const PreparedCall call = Prepared(request);
  ASSERT_EQ(call.jobs[0].decoding.prefix.size(), 49u);
  EXPECT_TRUE(call.jobs[0].truncated);
  const Ids suffix = IdsOf("\nTL;DR:"), whole = IdsOf(text);
  const auto cut = call.jobs[0].decoding.prefix.end() - static_cast<std::ptrdiff_t>(suffix.size());
  EXPECT_EQ(Ids(cut, call.jobs[0].decoding.prefix.end()), suffix);
  EXPECT_TRUE(std::equal(call.jobs[0].decoding.prefix.begin(), cut, whole.begin()));
  request.mutable_parameters()->set_max_length(5);
  EXPECT_THAT(Refused(request), HasSubstr("document, which is cut before the task's suffix, has more than 4 tokens"));
}

// Each window is the end of a prompt of its own, with room for the whole answer.
TEST_F(DecoderOnlyTest, WindowsLeaveRoomForAnswers) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "the fox. ";
  v1::SummarizeRequest request = Summarize(text);
  request.set_truncation(v1::TRUNCATION_CHUNK);
  EXPECT_THAT(Refused(request), HasSubstr("max_new_tokens is not set; TRUNCATION_CHUNK needs it of a decoder-only"));
  request.mutable_parameters()->set_max_new_tokens(40);
  const PreparedCall call = Prepared(request);
  ASSERT_GT(call.jobs.size(), 3u);
  const Ids suffix = IdsOf("\nTL;DR:");
  for (const PlannedJob& job : call.jobs) {
    const Ids& prompt = job.decoding.prefix;
    EXPECT_THAT(job.source, IsEmpty());
    EXPECT_LE(prompt.size(), static_cast<size_t>(kPositions - 40));
    EXPECT_EQ(job.decoding.max_length, static_cast<int>(prompt.size()) + 40);
    EXPECT_EQ(job.source_tokens, static_cast<int>(prompt.size()));
    EXPECT_TRUE(std::equal(suffix.begin(), suffix.end(), prompt.end() - static_cast<std::ptrdiff_t>(suffix.size())));
  }
  EXPECT_EQ(call.effective.max_length(), call.jobs[0].decoding.max_length);
  request.mutable_chunk()->set_window_tokens(kPositions - 39);
  EXPECT_THAT(Refused(request), HasSubstr("chunk.window_tokens is 57; allowed are 0 to 56 before max_new_tokens, 40"));
}

TEST_F(DecoderOnlyTest, TargetsGoOnFromThePrompt) {
  v1::ScoreRequest request;
  request.set_text("the fox");
  request.add_targets()->set_text(" over");
  request.add_targets()->mutable_token_ids()->mutable_ids()->Add(7);
  const PreparedCall call = Prepared(request);
  ASSERT_EQ(call.jobs.size(), 2u);
  const Ids prompt = IdsOf("the fox");
  Ids text = prompt, ids = prompt;
  for (const int32_t id : IdsOf(" over")) text.push_back(id);
  text.push_back(call.jobs[0].decoding.eos_token_id.front());
  ids.push_back(7);
  EXPECT_EQ(call.jobs[0].decoding.prefix, text);
  EXPECT_EQ(call.jobs[1].decoding.prefix, ids);
  for (const PlannedJob& job : call.jobs) {
    EXPECT_THAT(job.source, IsEmpty());
    EXPECT_EQ(job.decoding.score_from, static_cast<int>(prompt.size()));
  }
}

TEST_F(DecoderOnlyTest, APromptLeavesRoomForTargets) {
  v1::ScoreRequest request;
  request.mutable_token_ids()->mutable_ids()->Resize(kPositions, 5);
  request.add_targets()->mutable_token_ids()->mutable_ids()->Resize(2, 6);
  EXPECT_THAT(Refused(request),
              HasSubstr("token_ids has 96 tokens; model fake takes at most 95 before a target's first "
                        "of max_decoder_tokens, 96"));
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  EXPECT_THAT(Refused(request), HasSubstr("targets[0].token_ids has 2 ids; allowed are at most 1"));
  request.mutable_targets(0)->mutable_token_ids()->mutable_ids()->Truncate(1);
  const PreparedCall call = Prepared(request);
  EXPECT_EQ(call.jobs[0].decoding.prefix.size(), 96u);
  EXPECT_TRUE(call.jobs[0].truncated);
}

TEST_F(DecoderOnlyTest, WhatHasNoMeaningIsRefused) {
  v1::GenerateRequest request = Generate(3);
  request.mutable_parameters()->set_decoder_start_token_id(1);
  EXPECT_THAT(Refused(request), HasSubstr("decoder_start_token_id is 1; the model is decoder-only"));
  request = Generate(3);
  request.set_prefix_text("a");
  EXPECT_THAT(Refused(request), HasSubstr("answer_prefix is set; the model is decoder-only"));
  for (const bool questions : {true, false}) {
    FakeModelOptions options = options_;
    options.questions = questions;
    if (!questions) options.summarize_defaults.set_decoder_start_token_id(1);
    const auto model = RunningModel::Create(FakeModelConfig(options), MakeFakeEngine(options), nullptr);
    EXPECT_THAT(std::string(model.status().message()),
                HasSubstr(questions ? "tasks.questions is set; the model is decoder-only"
                                    : "defaults set decoder_start_token_id; the model is decoder-only"));
  }
}

}  // namespace
}  // namespace elserve
