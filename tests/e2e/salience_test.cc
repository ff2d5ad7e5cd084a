// Parts of a document that matter, on the real binary: what they change, what they leave, and the command for them.
#include <google/protobuf/util/message_differencer.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kDocument[] =
    "Frobnicator reads mail boxes of many formats and writes archives. It has a graphical front end that shows each "
    "thread as a tree. A library for the Haskell language is part of it. Plug-ins encrypt messages by OpenPGP.";

class SalienceTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ServerUnderTest({.model = {"salience: {layers: [1, 2]}"}}); }
  static void TearDownTestSuite() { delete server_; }

  static v1::SummarizeRequest Request(const std::string& focus) {
    v1::SummarizeRequest request;
    request.set_document(kDocument);
    request.mutable_parameters()->set_max_new_tokens(24);
    if (focus.empty()) return request;
    const auto begin = static_cast<int64_t>(request.document().find(focus));
    v1::Span* const span = request.add_salient_spans();
    span->set_begin(begin);
    span->set_end(begin + static_cast<int64_t>(focus.size()));
    return request;
  }
  static std::string Refusal(const v1::SummarizeRequest& request) {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::Status status = server_->stub().Summarize(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  }

  static inline ServerUnderTest* server_ = nullptr;
};

TEST_F(SalienceTest, SteersTheSummary) {
  const std::string plain = server_->Summarize(Request("")).hypotheses(0).text();
  EXPECT_THAT(plain, testing::Not(HasSubstr("Haskell")));
  const v1::GenerateResponse response = server_->Summarize(Request("A library for the Haskell language"));
  EXPECT_THAT(response.hypotheses(0).text(), HasSubstr("Haskell"));
  EXPECT_EQ(response.salience().strength(), 1);
  EXPECT_EQ(response.salience().spans_size(), 1);
  EXPECT_EQ(response.usage().answered_by(), v1::ANSWERED_BY_COMPUTING) << "one document, another computation";
  // As before, and after, to the bit.
  const v1::GenerateResponse again = server_->Summarize(Request(""));
  EXPECT_EQ(again.hypotheses(0).text(), plain);
  EXPECT_FALSE(again.has_salience());
}

TEST_F(SalienceTest, StreamsAnswerAlike) {
  const v1::SummarizeRequest request = Request("encrypt messages by OpenPGP");
  const v1::GenerateResponse unary = server_->Summarize(request);
  grpc::ClientContext context;
  const auto reader = server_->stub().StreamSummarize(&context, request);
  v1::GenerateChunk chunk;
  while (reader->Read(&chunk)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(chunk.response().hypotheses(0), unary.hypotheses(0)));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(chunk.response().salience(), unary.salience()));
}

TEST_F(SalienceTest, BadOnesAreRefused) {
  v1::SummarizeRequest request = Request("Haskell");
  request.mutable_salient_spans(0)->set_end(100000);
  EXPECT_THAT(Refusal(request), HasSubstr("salient_spans[0].end is 100000"));
  request = Request("");
  request.set_salience_strength(0.5);
  EXPECT_THAT(Refusal(request), HasSubstr("salience_strength is 0.5"));
}

TEST_F(SalienceTest, ModelsSayWhereItActs) {
  grpc::ClientContext context;
  v1::Model model;
  ASSERT_TRUE(server_->stub().GetModel(&context, {}, &model).ok());
  EXPECT_THAT(model.salience().layers(), ElementsAre(1, 2));
  EXPECT_EQ(model.salience().heads_size(), model.decoder_heads());
  Process models({"models", "--server", server_->address()});
  EXPECT_EQ(models.Wait(), 0);
  EXPECT_THAT(models.output(), HasSubstr("salience    {\"layers\":[1,2]"));
}

TEST_F(SalienceTest, TheCommandFindsWhatMatters) {
  const std::vector<std::string> command = {"summarize", "--server",          server_->address(), "--json",
                                            "--param",   "max_new_tokens=24", "--focus",          "Haskell",
                                            "--focus",   "library",           "--focus-strength", "0.9"};
  Process client(command, kDocument);
  EXPECT_EQ(client.Wait(), 0) << client.error();
  const auto answer = nlohmann::json::parse(client.output());
  EXPECT_EQ(answer["response"]["salience"]["strength"], 0.9);
  EXPECT_EQ(answer["response"]["salience"]["spans"].size(), 2u);
  Process missing({"summarize", "--server", server_->address(), "--focus", "Pascal"}, kDocument);
  EXPECT_EQ(missing.Wait(), 1);
  EXPECT_THAT(missing.error(), HasSubstr("--focus is \"Pascal\", which the text does not have"));
}

}  // namespace
}  // namespace elserve
