// Documents in windows, and questions in every format, on the real binary.
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr auto kModel = "/models/debian-synopsis, device: cpu, precision: float32, memory: 64MiB";

// Sentences of many bytes' characters among plain ones.
std::string Document(int sentences) {
  std::string text;
  for (int i = 0; i < sentences; ++i) {
    text += "Frobnicator " + std::to_string(i) + " is a naïve tool that reads mail boxes and writes 日本 archives. ";
  }
  return text;
}

v1::SummarizeRequest Chunked(const std::string& document, int window_tokens) {
  v1::SummarizeRequest request;
  request.set_document(document);
  request.set_truncation(v1::TRUNCATION_CHUNK);
  request.mutable_chunk()->set_window_tokens(window_tokens);
  request.mutable_parameters()->set_max_new_tokens(20);
  return request;
}

class LongDocumentsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ServerUnderTest(); }
  static void TearDownTestSuite() { delete server_; }

  // What the model says of a text alone.
  static v1::Hypothesis Alone(const std::string& text) {
    v1::SummarizeRequest request;
    request.set_document(text);
    request.mutable_parameters()->set_max_new_tokens(20);
    return server_->Summarize(request).hypotheses(0);
  }

  static inline ServerUnderTest* server_ = nullptr;
};

// Every byte is in some part, and a part is what the same text gives alone, to the bit.
TEST_F(LongDocumentsTest, PartsAreSummariesOfTheirOwn) {
  const std::string document = Document(40);
  const v1::GenerateResponse response = server_->Summarize(Chunked(document, 120));
  ASSERT_GT(response.parts_size(), 8);
  std::string joined;
  int64_t end = 0;
  int generated = 0;
  for (const v1::Part& part : response.parts()) {
    ASSERT_LE(part.source().begin(), end);
    end = part.source().end();
    const auto begin = static_cast<size_t>(part.source().begin());
    const std::string text = document.substr(begin, static_cast<size_t>(end) - begin);
    EXPECT_EQ(part.hypothesis().SerializeAsString(), Alone(text).SerializeAsString()) << text;
    EXPECT_LE(part.usage().source_tokens(), 120);
    joined += (joined.empty() ? "" : " ") + part.hypothesis().text();
    generated += part.usage().generated_tokens();
  }
  EXPECT_EQ(end, static_cast<int64_t>(document.size()));
  ASSERT_EQ(response.hypotheses_size(), 1);
  EXPECT_EQ(response.hypotheses(0).text(), joined);
  EXPECT_EQ(response.hypotheses(0).token_ids_size(), 0);
  EXPECT_EQ(response.usage().generated_tokens(), generated);
  EXPECT_EQ(response.parameters().max_new_tokens(), 20);
}

TEST_F(LongDocumentsTest, SummariesAreSummarizedUntilOneIsLeft) {
  v1::SummarizeRequest request = Chunked(Document(60), 80);
  request.mutable_chunk()->set_join(v1::JOIN_RESUMMARIZE);
  request.mutable_chunk()->set_max_rounds(16);
  const v1::GenerateResponse response = server_->Summarize(request);
  const v1::Part& last = response.parts(response.parts_size() - 1);
  ASSERT_GE(last.round(), 2);
  ASSERT_EQ(last.count(), 1);
  std::string before;
  for (const v1::Part& part : response.parts()) {
    if (part.round() == last.round() - 1) before += (before.empty() ? "" : " ") + part.hypothesis().text();
  }
  EXPECT_EQ(last.hypothesis().SerializeAsString(), Alone(before).SerializeAsString());
  EXPECT_EQ(response.hypotheses(0).text(), last.hypothesis().text());
  EXPECT_EQ(last.source().begin(), 0);
  EXPECT_EQ(last.source().end(), static_cast<int64_t>(request.document().size()));
}

TEST_F(LongDocumentsTest, StreamsComeInTheOrderOfTheText) {
  const v1::SummarizeRequest request = Chunked(Document(30), 120);
  grpc::ClientContext context;
  const auto reader = server_->stub().StreamSummarize(&context, request);
  v1::GenerateChunk chunk;
  std::string text;
  int parts = 0;
  while (reader->Read(&chunk)) {
    text += chunk.delta().text();
    if (chunk.has_part()) {
      EXPECT_EQ(chunk.part().index(), parts++);
      EXPECT_THAT(text, HasSubstr(chunk.part().hypothesis().text()));
    }
  }
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, chunk.response().hypotheses(0).text());
  EXPECT_EQ(parts, chunk.response().parts_size());
}

TEST_F(LongDocumentsTest, NothingIsLeftOfACallThatIsCancelled) {
  v1::SummarizeRequest request = Chunked(Document(200), 64);
  *request.mutable_parameters() = LongAnswer(100);
  for (const int parts : {0, 3}) {
    grpc::ClientContext context;
    const auto reader = server_->stub().StreamSummarize(&context, request);
    ASSERT_TRUE(server_->WaitForMetric("elserve_sequences_in_flight", [](double n) { return n > 3; }));
    v1::GenerateChunk chunk;
    for (int seen = 0; seen < parts && reader->Read(&chunk);) seen += chunk.has_part();
    context.TryCancel();
    while (reader->Read(&chunk)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(server_->WaitUntilIdle());
  }
}

// Where windows follow from others.
TEST_F(LongDocumentsTest, NothingIsLeftOfALaterRound) {
  v1::SummarizeRequest request = Chunked(Document(200), 64);
  request.mutable_parameters()->set_max_new_tokens(8);
  request.mutable_chunk()->set_join(v1::JOIN_RESUMMARIZE);
  grpc::ClientContext context;
  const auto reader = server_->stub().StreamSummarize(&context, request);
  v1::GenerateChunk chunk;
  while (reader->Read(&chunk) && chunk.part().round() < 2) {
  }
  ASSERT_EQ(chunk.part().round(), 2);
  context.TryCancel();
  while (reader->Read(&chunk)) {
  }
  reader->Finish();  // the rounds may have come to their end before
  EXPECT_TRUE(server_->WaitUntilIdle());
}

TEST_F(LongDocumentsTest, TheClientTakesWindowsAndSaysHowFarItIs) {
  TestDirectory directory;
  const std::string path = directory.path() + "/long.txt";
  std::ofstream(path) << Document(30);
  Process client({"summarize", "--server", server_->address(), "--chunk", "--window-tokens", "120", "--overlap-tokens",
                  "0", "--progress", "--timings", "--param", "max_new_tokens=20", path});
  ASSERT_EQ(client.Wait(), 0) << client.error();
  const v1::GenerateResponse whole = [&] {
    v1::SummarizeRequest request = Chunked(Document(30), 120);
    request.mutable_chunk()->set_overlap_tokens(0);
    return server_->Summarize(request);
  }();
  EXPECT_THAT(client.output(), HasSubstr(whole.hypotheses(0).text() + "\n"));
  EXPECT_THAT(client.error(), AllOf(HasSubstr("round 1, part 1 of " + std::to_string(whole.parts_size())),
                                    HasSubstr("part " + std::to_string(whole.parts_size()) + " of")));
  Process both({"summarize", "--server", server_->address(), "--chunk", "--truncate", path});
  EXPECT_NE(both.Wait(), 0);
  EXPECT_THAT(both.error(), HasSubstr("--truncate"));
}

class FormatsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto entry = [](const std::string& name, const std::string& questions) {
      return "{name: " + name + ", path: " + ELSERVE_SOURCE_DIR + kModel + ", tasks: {questions: " + questions + "}}";
    };
    server_ = new ServerUnderTest(
        {.entries = {
             entry("inside", "{format: highlight}"),
             entry("outside", R"({format: highlight, prefix: "ask: ", spaces: outside})"),
             entry("template", R"({format: template, template: "answer: {answer}  context: {context}"})"),
             entry("all",
                   R"({format: end_to_end, prefix: "ask: ", separator: " a", defaults: {max_new_tokens: 12}})")}});
  }
  static void TearDownTestSuite() { delete server_; }

  static v1::GenerateQuestionsResponse Ask(const v1::GenerateQuestionsRequest& request) {
    grpc::ClientContext context;
    v1::GenerateQuestionsResponse response;
    const grpc::Status status = server_->stub().GenerateQuestions(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  static v1::GenerateResponse Generate(const std::string& model, const std::string& prompt) {
    v1::GenerateRequest request;
    request.set_model(model);
    request.set_text(prompt);
    grpc::ClientContext context;
    v1::GenerateResponse response;
    EXPECT_TRUE(server_->stub().Generate(&context, request, &response).ok());
    return response;
  }

  static inline ServerUnderTest* server_ = nullptr;
};

TEST_F(FormatsTest, EachMakesItsPrompt) {
  for (const auto& [model, prompt] : std::vector<std::pair<std::string, std::string>>{
           {"inside", "generate question: 日本 has <hl> naïve <hl> tools."},
           {"outside", "ask: 日本 has  <hl>naïve<hl>  tools."},
           {"template", "answer: naïve  context: 日本 has naïve tools."}}) {
    v1::GenerateQuestionsRequest request;
    request.set_model(model);
    request.set_context("日本 has naïve tools.");
    request.add_answers()->set_text("naïve");
    const v1::GenerateQuestionsResponse response = Ask(request);
    ASSERT_EQ(response.questions_size(), 1);
    const v1::Question& question = response.questions(0);
    EXPECT_EQ(question.hypotheses(0).SerializeAsString(), Generate(model, prompt).hypotheses(0).SerializeAsString());
    EXPECT_EQ(question.answer().text(), "naïve");
    EXPECT_EQ(question.answer().span().begin(), 11);
    EXPECT_EQ(question.answer().span().end(), 17);
  }
}

TEST_F(FormatsTest, OneOutputIsSplitAlsoInStreams) {
  v1::GenerateQuestionsRequest request;
  request.set_model("all");
  request.set_context(Document(1));
  const v1::GenerateQuestionsResponse response = Ask(request);
  ASSERT_EQ(response.parts_size(), 1);
  EXPECT_EQ(response.parts(0).hypothesis().text().substr(0, response.questions(0).hypotheses(0).text().size()),
            response.questions(0).hypotheses(0).text());
  EXPECT_FALSE(response.questions(0).has_answer());
  grpc::ClientContext context;
  const auto reader = server_->stub().StreamGenerateQuestions(&context, request);
  v1::GenerateQuestionsChunk chunk;
  std::vector<std::string> questions;
  while (reader->Read(&chunk)) {
    if (!chunk.has_delta()) continue;
    EXPECT_EQ(chunk.answer_index(), static_cast<int>(questions.size()));
    questions.push_back(chunk.delta().text());
  }
  ASSERT_TRUE(reader->Finish().ok());
  ASSERT_EQ(static_cast<int>(questions.size()), response.questions_size());
  for (size_t i = 0; i < questions.size(); ++i) {
    EXPECT_EQ(questions[i], response.questions(static_cast<int>(i)).hypotheses(0).text());
  }
}

TEST_F(FormatsTest, ClientsAskInEach) {
  for (const char* model : {"inside", "outside", "template"}) {
    Process client({"questions", "--server", server_->address(), "--model", model, "--answer", "mail boxes"},
                   Document(1));
    ASSERT_EQ(client.Wait(), 0) << client.error();
    EXPECT_THAT(client.output(), AllOf(HasSubstr("Q: "), HasSubstr("A: mail boxes\n"))) << model;
  }
  Process all({"questions", "--server", server_->address(), "--model", "all"}, Document(1));
  ASSERT_EQ(all.Wait(), 0) << all.error();
  EXPECT_THAT(all.output(), HasSubstr("Q: "));
  Process models({"models", "--server", server_->address()});
  ASSERT_EQ(models.Wait(), 0);
  EXPECT_THAT(models.output(),
              AllOf(HasSubstr(R"("format":"end_to_end")"), HasSubstr(R"("spaces":"outside")"),
                    HasSubstr("answer: {answer}  context: {context}"), HasSubstr(R"("max_document_bytes":"1048576")")));
}

}  // namespace
}  // namespace elserve
