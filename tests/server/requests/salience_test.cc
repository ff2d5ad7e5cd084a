// Parts of a text that matter: which tokens they are, in every way in which a text becomes jobs.
#include "server/requests/salience.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/prepare.h"
#include "tests/server/requests/fake_model.h"
#include "tests/server/requests/rpc_requests.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kDocument[] = "The quick brown fox, a naïve editor, jumps over the lazy dog.";

class SalienceTest : public ::testing::Test {
 protected:
  // Made once: a tokenizer takes a while to load.
  static void SetUpTestSuite() {
    plain_ = new ModelRegistry(MakeFakeModels({{.max_source_tokens = 64}}));
    prompted_ = new ModelRegistry(
        MakeFakeModels({{.max_source_tokens = 40, .summarize_prefix = "sum up: ", .summarize_suffix = " In short:"}}));
  }
  static void TearDownTestSuite() {
    delete plain_;
    delete prompted_;
  }

  // What the tokens of a job say that are salient, a text for each range.
  static std::vector<std::string> Salient(const ModelRegistry& models, const PlannedJob& job) {
    std::vector<std::string> texts;
    for (const TokenRange& range : job.decoding.salience.tokens) {
      texts.push_back(models.models().front().served->tokenizer().Decode(
          std::span(job.source).subspan(range.begin, range.end - range.begin)));
    }
    return texts;
  }
  template <typename Request>
  static std::string Refusal(const ModelRegistry& models, const Request& request) {
    const auto call = Prepare(models, request, false);
    EXPECT_EQ(call.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(call.status().message());
  }

  static inline const ModelRegistry* plain_ = nullptr;
  static inline const ModelRegistry* prompted_ = nullptr;
};

void AddSpan(const std::string& text, v1::SummarizeRequest* request) {
  const size_t begin = request->document().find(text);
  ASSERT_NE(begin, std::string::npos) << text;
  v1::Span* const span = request->add_salient_spans();
  span->set_begin(static_cast<int64_t>(begin));
  span->set_end(static_cast<int64_t>(begin + text.size()));
}

v1::SummarizeRequest Focused(const std::string& document, const std::vector<std::string>& texts) {
  v1::SummarizeRequest request;
  request.set_document(document);
  for (const std::string& text : texts) AddSpan(text, &request);
  return request;
}

TEST_F(SalienceTest, SpansAreTokens) {
  const auto call = Prepare(*plain_, Focused(kDocument, {"naïve", "brown fox"}), false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(Salient(*plain_, call->jobs[0]), ElementsAre(" brown fox", " naïve"));
  EXPECT_EQ(call->jobs[0].decoding.salience.addition, -std::numeric_limits<float>::infinity());
  ASSERT_TRUE(call->salience);
  EXPECT_EQ(call->salience->strength(), 1);
  ASSERT_EQ(call->salience->spans_size(), 2);
  EXPECT_EQ(call->salience->spans(0).begin(), 10);
  EXPECT_EQ(call->salience->spans(0).end(), 19);
}

TEST_F(SalienceTest, WithoutSpansNothingIsDifferent) {
  const auto with = Prepare(*plain_, Focused(kDocument, {"brown fox"}), false);
  const auto without = Prepare(*plain_, Focused(kDocument, {}), false);
  ASSERT_TRUE(with.ok() && without.ok());
  EXPECT_EQ(without->jobs[0].source, with->jobs[0].source);
  EXPECT_EQ(without->jobs[0].decoding.salience, Salience());
  EXPECT_FALSE(without->salience);
  EXPECT_FALSE(without->jobs[0].decoding == with->jobs[0].decoding);
}

TEST_F(SalienceTest, SpansMayTouchAndOverlapAndBeOfAnyOrder) {
  const auto call =
      Prepare(*plain_, Focused(kDocument, {"over the lazy", "fox, a", "brown fox", "lazy dog", " na", "ïve"}), false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(Salient(*plain_, call->jobs[0]), ElementsAre(" brown fox, a naïve", " over the lazy dog"));
  EXPECT_EQ(call->salience->spans_size(), 2);
}

// As much as half a word of it.
TEST_F(SalienceTest, ATokenCountsIfAPartOfItIsInASpan) {
  const auto call = Prepare(*plain_, Focused(kDocument, {"he quick b"}), false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(Salient(*plain_, call->jobs[0]), ElementsAre("The quick brow"));
}

TEST_F(SalienceTest, StrengthIsTheLogarithmOfWhatIsLeft) {
  v1::SummarizeRequest request = Focused(kDocument, {"fox"});
  request.set_salience_strength(0.9);
  const auto call = Prepare(*plain_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_FLOAT_EQ(call->jobs[0].decoding.salience.addition, std::log(0.1f));
  EXPECT_EQ(call->salience->strength(), 0.9);
  for (const double bad : {0.0, -0.5, 1.01, std::nan("")}) {
    request.set_salience_strength(bad);
    EXPECT_THAT(Refusal(*plain_, request), AllOf(HasSubstr("salience_strength is "), HasSubstr("above 0 and up to 1")));
  }
  request.set_salience_strength(0.5);
  request.clear_salient_spans();
  EXPECT_THAT(Refusal(*plain_, request), AllOf(HasSubstr("salience_strength is 0.5"), HasSubstr("salient_spans")));
}

TEST_F(SalienceTest, BadSpansAreNamed) {
  const auto refused = [](int64_t begin, int64_t end) {
    v1::SummarizeRequest request = Focused(kDocument, {"fox"});
    v1::Span* const span = request.add_salient_spans();
    span->set_begin(begin);
    span->set_end(end);
    return Refusal(*plain_, request);
  };
  EXPECT_THAT(refused(-1, 4), AllOf(HasSubstr("salient_spans[1].begin is -1"), HasSubstr("document")));
  EXPECT_THAT(refused(5, 5), HasSubstr("salient_spans[1].end is 5"));
  EXPECT_THAT(refused(5, 63), AllOf(HasSubstr("salient_spans[1].end is 63"), HasSubstr("62 bytes")));
  EXPECT_THAT(refused(26, 28), HasSubstr("salient_spans[1].begin is 26, inside the character at bytes 25 to 27"));
  EXPECT_THAT(refused(15, 16), HasSubstr("salient_spans[1] is bytes 15 to 16, which hold no token;"));
  v1::SummarizeRequest request = Focused(kDocument, {"fox", "fox"});
  EXPECT_TRUE(Prepare(*plain_, request, false).ok()) << "the same span twice";
  while (request.salient_spans_size() <= 256) *request.add_salient_spans() = request.salient_spans(0);
  EXPECT_THAT(Refusal(*plain_, request), AllOf(HasSubstr("salient_spans has 257"), HasSubstr("256")));
}

TEST_F(SalienceTest, ThePromptAroundADocumentIsNotSalient) {
  const auto call = Prepare(*prompted_, Focused("In fox, up and sum", {"In", "sum"}), false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(Salient(*prompted_, call->jobs[0]), ElementsAre(" In", " sum"));
  EXPECT_EQ(prompted_->models().front().served->tokenizer().Decode(call->jobs[0].source),
            "sum up: In fox, up and sum In short:");
}

TEST_F(SalienceTest, OfWhatTruncationCutsOffSomethingHasToBeLeft) {
  std::string document;
  for (int i = 0; i < 60; ++i) absl::StrAppend(&document, i == 0 ? "" : " ", "word", i % 10);
  for (const ModelRegistry* models : {plain_, prompted_}) {
    v1::SummarizeRequest request = Focused(document, {"word0 word1", document.substr(12)});
    request.set_truncation(v1::TRUNCATION_TRUNCATE);
    const auto call = Prepare(*models, request, false);
    ASSERT_TRUE(call.ok()) << call.status();
    EXPECT_TRUE(call->jobs[0].truncated);
    const std::vector<std::string> salient = Salient(*models, call->jobs[0]);
    ASSERT_EQ(salient.size(), 1u);
    EXPECT_THAT(salient[0], HasSubstr("word0 word1 word2"));
    EXPECT_THAT(salient[0], ::testing::Not(HasSubstr("In short")));
    v1::Span* const last = request.add_salient_spans();
    last->set_begin(static_cast<int64_t>(document.size() - 5));
    last->set_end(static_cast<int64_t>(document.size()));
    EXPECT_THAT(Refusal(*models, request),
                AllOf(HasSubstr("salient_spans[2] is bytes 354 to 359"), HasSubstr("truncation leaves")));
  }
}

// Each window has its own; one without any attends as usual, for a head may not see nothing.
TEST_F(SalienceTest, WindowsHaveTheSpansThatTheyHold) {
  std::string document;
  for (int i = 0; i < 12; ++i) absl::StrAppend(&document, "Sentence ", i, " has a few more words. ");
  for (const ModelRegistry* models : {plain_, prompted_}) {
    v1::SummarizeRequest request = Focused(document, {"Sentence 0", "few more words. Sentence 7 has"});
    request.set_truncation(v1::TRUNCATION_CHUNK);
    request.mutable_chunk()->set_window_tokens(30);
    request.mutable_chunk()->set_overlap_tokens(0);
    const auto call = Prepare(*models, request, false);
    ASSERT_TRUE(call.ok()) << call.status();
    ASSERT_GT(call->jobs.size(), 4u);
    std::vector<std::string> salient;
    size_t without = 0;
    for (const PlannedJob& job : call->jobs) {
      const std::vector<std::string> own = Salient(*models, job);
      salient.insert(salient.end(), own.begin(), own.end());
      without += own.empty();
      EXPECT_EQ(own.empty(), job.decoding.salience == Salience());
      EXPECT_THAT(job.spans, IsEmpty());
    }
    EXPECT_GE(without, 2u);
    std::string joined;
    for (const std::string& text : salient) joined += (text[0] == ' ' || joined.empty() ? "" : " ") + text;
    EXPECT_THAT(joined, HasSubstr("Sentence 0"));
    EXPECT_THAT(joined, HasSubstr("few more words. Sentence 7 has"));
    EXPECT_EQ(call->salience->spans_size(), 2);
  }
}

TEST_F(SalienceTest, GenerateHasItOfItsText) {
  v1::GenerateRequest request;
  request.set_text(kDocument);
  request.add_salient_spans()->set_end(9);
  const auto call = Prepare(*plain_, request, false);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_THAT(Salient(*plain_, call->jobs[0]), ElementsAre("The quick"));
  request.mutable_token_ids()->add_ids(5);
  EXPECT_THAT(Refusal(*plain_, request), AllOf(HasSubstr("salient_spans has 1"), HasSubstr("text")));
}

TEST_F(SalienceTest, DecoderOnlyModelsRefuseIt) {
  const ModelRegistry models(MakeFakeModels({{.decoder_only_vocab = 8192, .questions = false}}));
  EXPECT_THAT(Refusal(models, Focused(kDocument, {"fox"})),
              AllOf(HasSubstr("salient_spans has 1 entries"), HasSubstr("decoder-only")));
}

}  // namespace
}  // namespace elserve
