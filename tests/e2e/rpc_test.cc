// Every rpc of a running server, and the client commands against it.
#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/generic/generic_stub.h>

#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class RpcTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ServerUnderTest(); }
  static void TearDownTestSuite() { delete server_; }
  static v1::GenerationService::Stub& stub() { return server_->stub(); }

  static inline ServerUnderTest* server_ = nullptr;
};

v1::SummarizeRequest Document(int words, int beams) {
  v1::SummarizeRequest request;
  request.set_document(SomeText(words));
  request.mutable_parameters()->set_num_beams(beams);
  return request;
}

// Reads a stream to its end: the joined deltas and the answer.
template <typename Reader, typename Chunk>
v1::Delta Join(Reader& reader, Chunk* last) {
  v1::Delta joined;
  Chunk chunk;
  bool answered = false;
  while (reader.Read(&chunk)) {
    EXPECT_FALSE(answered) << "something after the answer";
    answered = chunk.has_response();
    *last = chunk;
    if (!chunk.has_delta()) continue;
    *joined.mutable_text() += chunk.delta().text();
    joined.mutable_token_ids()->MergeFrom(chunk.delta().token_ids());
  }
  EXPECT_TRUE(answered);
  return joined;
}

TEST_F(RpcTest, SummarizeAnswersWithAllOfIt) {
  v1::SummarizeRequest request = Document(60, 4);
  request.mutable_parameters()->set_num_return_sequences(2);
  request.set_token_logprobs(true);
  request.set_request_id("e2e-1");
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status = stub().Summarize(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.hypotheses_size(), 2);
  EXPECT_FALSE(response.hypotheses(0).text().empty());
  EXPECT_GE(response.hypotheses(0).score(), response.hypotheses(1).score());
  for (const v1::Hypothesis& hypothesis : response.hypotheses()) {
    EXPECT_EQ(hypothesis.token_ids_size(), hypothesis.token_logprobs_size());
    EXPECT_TRUE(hypothesis.finish_reason() == v1::FINISH_REASON_EOS ||
                hypothesis.finish_reason() == v1::FINISH_REASON_LENGTH);
  }
  EXPECT_EQ(response.parameters().num_beams(), 4);
  EXPECT_EQ(response.parameters().no_repeat_ngram_size(), 3);  // the checkpoint's
  EXPECT_GT(response.usage().source_tokens(), 60);
  EXPECT_GT(response.usage().steps(), 0);
  EXPECT_EQ(response.model(), "debian-synopsis");
  EXPECT_EQ(response.request_id(), "e2e-1");
  EXPECT_TRUE(server_->process().WaitForOutput("request_id=e2e-1 ended rpc=Summarize"));

  // What was used, sent again, gives the same answer.
  v1::SummarizeRequest again = request;
  *again.mutable_parameters() = response.parameters();
  grpc::ClientContext second;
  v1::GenerateResponse same;
  ASSERT_TRUE(stub().Summarize(&second, again, &same).ok());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(same.hypotheses(0), response.hypotheses(0)));
}

TEST_F(RpcTest, StreamsJoinToTheUnaryAnswer) {
  for (const int beams : {1, 4}) {
    const v1::SummarizeRequest request = Document(40, beams);
    grpc::ClientContext unary;
    v1::GenerateResponse response;
    ASSERT_TRUE(stub().Summarize(&unary, request, &response).ok());
    grpc::ClientContext context;
    const auto reader = stub().StreamSummarize(&context, request);
    v1::GenerateChunk last;
    const v1::Delta joined = Join(*reader, &last);
    EXPECT_TRUE(reader->Finish().ok());
    const v1::Hypothesis& streamed = last.response().hypotheses(0);
    EXPECT_EQ(joined.text(), streamed.text());
    EXPECT_TRUE(std::equal(joined.token_ids().begin(), joined.token_ids().end(), streamed.token_ids().begin(),
                           streamed.token_ids().end()));
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(streamed, response.hypotheses(0)));
  }
}

TEST_F(RpcTest, GenerateTakesTextOrIds) {
  v1::GenerateRequest request;
  request.set_text(SomeText(30));
  grpc::ClientContext context;
  v1::GenerateResponse by_text;
  ASSERT_TRUE(stub().Generate(&context, request, &by_text).ok());
  for (const int id : {0, 100, 200, 300, 2}) request.mutable_token_ids()->add_ids(id);
  grpc::ClientContext second;
  v1::GenerateResponse by_ids;
  const grpc::Status status = stub().Generate(&second, request, &by_ids);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(by_ids.usage().source_tokens(), 5);
  grpc::ClientContext third;
  const auto reader = stub().StreamGenerate(&third, request);
  v1::GenerateChunk last;
  EXPECT_EQ(Join(*reader, &last).text(), by_ids.hypotheses(0).text());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(RpcTest, UsageTellsWhatWasCut) {
  v1::GenerateRequest request;
  request.mutable_parameters()->set_max_new_tokens(2);
  request.mutable_parameters()->set_num_beams(1);
  const auto usage = [&request] {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::Status status = stub().Generate(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.usage();
  };
  request.set_truncation(v1::TRUNCATION_TRUNCATE);
  request.set_text(SomeText(10));
  EXPECT_FALSE(usage().truncated());
  EXPECT_LT(usage().source_tokens(), 100);
  request.set_text(SomeText(3000));
  EXPECT_TRUE(usage().truncated());
  EXPECT_EQ(usage().source_tokens(), 1024);
  request.mutable_token_ids()->mutable_ids()->Resize(1024, 7);
  EXPECT_FALSE(usage().truncated());
  request.mutable_token_ids()->add_ids(7);
  EXPECT_TRUE(usage().truncated());
  EXPECT_EQ(usage().source_tokens(), 1024);
  EXPECT_EQ(usage().generated_tokens(), 2);
}

TEST_F(RpcTest, AsksAQuestionForEachAnswer) {
  v1::GenerateQuestionsRequest request;
  request.set_context("Vim is an editor that was written by Bram Moolenaar in 1991.");
  request.add_answers()->set_text("Bram Moolenaar");
  request.add_answers()->mutable_span()->set_begin(0);
  request.mutable_answers(1)->mutable_span()->set_end(3);
  grpc::ClientContext context;
  v1::GenerateQuestionsResponse response;
  const grpc::Status status = stub().GenerateQuestions(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.questions_size(), 2);
  EXPECT_EQ(response.questions(0).answer().text(), "Bram Moolenaar");
  EXPECT_EQ(response.questions(0).answer().span().begin(), 37);
  EXPECT_EQ(response.questions(1).answer().text(), "Vim");
  EXPECT_FALSE(response.questions(0).hypotheses(0).text().empty());

  grpc::ClientContext second;
  const auto reader = stub().StreamGenerateQuestions(&second, request);
  std::vector<std::string> texts(2);
  v1::GenerateQuestionsChunk chunk;
  while (reader->Read(&chunk)) {
    if (!chunk.has_delta()) continue;
    ASSERT_TRUE(chunk.has_answer_index());
    texts.at(static_cast<size_t>(chunk.answer_index())) += chunk.delta().text();
  }
  EXPECT_TRUE(reader->Finish().ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(texts[static_cast<size_t>(i)], response.questions(i).hypotheses(0).text());
    EXPECT_EQ(chunk.response().questions(i).hypotheses(0).text(), response.questions(i).hypotheses(0).text());
  }
}

TEST_F(RpcTest, ShowsItsModels) {
  grpc::ClientContext context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(stub().ListModels(&context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  const v1::Model& model = models.models(0);
  EXPECT_EQ(model.name(), "debian-synopsis");
  EXPECT_EQ(model.family(), "bart");
  EXPECT_EQ(model.precision(), "float32");
  EXPECT_EQ(model.memory_precision(), "float32");
  EXPECT_EQ(model.vocab_size(), 8192);
  EXPECT_FALSE(model.decoder_only());
  EXPECT_FALSE(model.attention_reason().empty());
  EXPECT_EQ(model.limits().max_tokens_reason(), "as many as the model's positions allow");
  EXPECT_GT(model.limits().encoder_memory_tokens(), 0);
  EXPECT_EQ(model.default_parameters().num_beams(), 4);
  grpc::ClientContext second;
  v1::Model one;
  ASSERT_TRUE(stub().GetModel(&second, {}, &one).ok());
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(one, model));
}

// Through the file, GetModel, the command line and what a request got.
TEST(LayersTest, EachLayerLiesOverTheOneBefore) {
  const ServerUnderTest server(
      {.entries = {"{name: m, path: " ELSERVE_SOURCE_DIR
                   "/models/debian-synopsis, device: cpu, precision: float32, memory: 256MiB, "
                   "defaults: {num_beams: 3, no_repeat_ngram_size: ~}, "
                   "tasks: {summarize: {defaults: {max_new_tokens: 9}}, questions: {defaults: {num_beams: 2}}}}"}});
  grpc::ClientContext shown;
  v1::Model model;
  ASSERT_TRUE(server.stub().GetModel(&shown, {}, &model).ok());
  const v1::DecodingParameters& own = model.default_parameters();
  EXPECT_EQ(own.num_beams(), 3);
  EXPECT_EQ(own.no_repeat_ngram_size(), 0);  // the checkpoint's 3, dropped
  EXPECT_EQ(own.max_length(), 64);           // the checkpoint's
  EXPECT_EQ(own.length_penalty(), 1);        // built-in
  const v1::DecodingParameters& summarize = model.tasks().summarize().default_parameters();
  EXPECT_EQ(summarize.num_beams(), 3);
  EXPECT_FALSE(summarize.has_max_length());
  EXPECT_EQ(summarize.max_new_tokens(), 9);
  EXPECT_EQ(model.tasks().questions().default_parameters().num_beams(), 2);

  const auto used = [&server](const std::vector<std::string>& parameters) {
    std::vector<std::string> command{"summarize", "--server", server.address(), "--json"};
    for (const std::string& parameter : parameters) command.insert(command.end(), {"--param", parameter});
    Process client(command, SomeText(20));
    EXPECT_EQ(client.Wait(), 0) << client.error();
    return nlohmann::json::parse(client.output())["response"]["parameters"];
  };
  EXPECT_EQ(used({})["max_length"], 10);
  EXPECT_EQ(used({"max_length=5"})["max_length"], 5);
  // Nothing is left below but transformers' default.
  const auto reset = used({"max_new_tokens=null", "num_beams=null"});
  EXPECT_EQ(reset["max_length"], 21);
  EXPECT_EQ(reset["num_beams"], 1);
  EXPECT_FALSE(reset.contains("reset"));
}

TEST_F(RpcTest, TellsItsHealth) {
  using grpc::health::v1::HealthCheckResponse;
  const auto health = grpc::health::v1::Health::NewStub(server_->channel());
  for (const char* service : {"", "debian-synopsis"}) {
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(health->Check(&context, request, &response).ok());
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
    grpc::ClientContext watch;
    const auto reader = health->Watch(&watch, request);
    ASSERT_TRUE(reader->Read(&response));
    EXPECT_EQ(response.status(), HealthCheckResponse::SERVING);
    watch.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::CANCELLED);
  }
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("nothing");
  HealthCheckResponse response;
  grpc::ClientContext context;
  const grpc::Status status = health->Check(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::NOT_FOUND);
  EXPECT_THAT(status.error_message(), HasSubstr("debian-synopsis"));
  grpc::ClientContext watch;
  const auto reader = health->Watch(&watch, request);
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthCheckResponse::SERVICE_UNKNOWN);
  watch.TryCancel();
}

// One message of grpc.reflection.v1alpha, written by hand: list_services (field 7) of an empty host.
TEST_F(RpcTest, ReflectsItsServices) {
  grpc::GenericStub stub(server_->channel());
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  auto call = stub.PrepareCall(&context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(next());
  const grpc::Slice slice(std::string("\x3a\x00", 2));
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  ASSERT_TRUE(next());
  grpc::ByteBuffer reply;
  call->Read(&reply, nullptr);
  ASSERT_TRUE(next());
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(reply.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& part : slices) bytes.append(reinterpret_cast<const char*>(part.begin()), part.size());
  EXPECT_THAT(bytes, HasSubstr("elserve.v1.GenerationService"));
  EXPECT_THAT(bytes, HasSubstr("grpc.health.v1.Health"));
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
}

TEST_F(RpcTest, CountsWhatItDid) {
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const double before = server_->Metric("elserve_requests_total", "rpc=\"Summarize\"");
  ASSERT_TRUE(stub().Summarize(&context, Document(20, 2), &response).ok());
  EXPECT_EQ(server_->Metric("elserve_requests_total", "rpc=\"Summarize\""), before + 1);
  EXPECT_TRUE(server_->WaitUntilIdle());
  EXPECT_GT(server_->Metric("elserve_encoder_cache_kept_tokens"), 0);
  const double hits = server_->Metric("elserve_encoder_cache_hits_total");
  const double encoded = server_->Metric("elserve_source_tokens_total");
  grpc::ClientContext again;
  v1::GenerateResponse same;
  ASSERT_TRUE(stub().Summarize(&again, Document(20, 2), &same).ok());
  EXPECT_EQ(same.hypotheses(0).text(), response.hypotheses(0).text());
  EXPECT_TRUE(server_->WaitUntilIdle());
  EXPECT_EQ(server_->Metric("elserve_encoder_cache_hits_total"), hits + 1);
  EXPECT_EQ(server_->Metric("elserve_source_tokens_total"), encoded);
  EXPECT_GT(server_->Metric("elserve_encoder_cache_misses_total"), 0);
  EXPECT_EQ(server_->Metric("elserve_encoder_cache_evictions_total"), 0);
  EXPECT_GT(server_->Metric("elserve_generated_tokens_total"), 0);
  EXPECT_GT(server_->Metric("elserve_source_tokens_total"), 0);
  EXPECT_GT(server_->Metric("elserve_step_seconds_count"), 0);
  EXPECT_GT(server_->Metric("elserve_step_phase_seconds_sum", "phase=\"decode\""), 0);
  EXPECT_GT(server_->Metric("elserve_step_rows_sum"), 0);
  EXPECT_GT(server_->Metric("elserve_queue_seconds_count"), 0);
  EXPECT_GT(server_->Metric("elserve_memory_peak_bytes"), 0);
  EXPECT_GT(server_->Metric("elserve_memory_capacity_bytes"), server_->Metric("elserve_memory_peak_bytes"));
  const ServerUnderTest::Page health = server_->Get("/healthz");
  EXPECT_EQ(health.status, 200);
  EXPECT_EQ(health.body, "ok\n");
  EXPECT_EQ(server_->Get("/nothing").status, 404);
}

TEST_F(RpcTest, ClientsSummarizeManyLinesInOrder) {
  std::string input;
  for (int i = 0; i < 12; ++i) input += SomeText(5 + 7 * i) + "\n";
  const std::vector<std::string> command{"summarize", "--server", server_->address(), "--lines", "--json"};
  Process many(command, input);
  ASSERT_EQ(many.Wait(), 0);
  std::vector<std::string> one_by_one = command;
  one_by_one.insert(one_by_one.end(), {"--concurrency", "1"});
  Process alone(one_by_one, input);
  ASSERT_EQ(alone.Wait(), 0);
  const auto texts = [](const std::string& output) {
    std::vector<std::string> all;
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      EXPECT_EQ(json["input"], "-:" + std::to_string(all.size() + 1));
      all.push_back(json["response"]["hypotheses"][0]["text"]);
    }
    return all;
  };
  EXPECT_EQ(texts(many.output()), texts(alone.output()));
  EXPECT_EQ(texts(many.output()).size(), 12u);
}

TEST_F(RpcTest, ClientsReportEachFileThatFails) {
  Process client({"summarize", "--server", server_->address(), "/nonexistent/a.txt", "-", "--timings"}, SomeText(20));
  EXPECT_EQ(client.Wait(), 1);
  EXPECT_THAT(client.error(), HasSubstr("/nonexistent/a.txt: No such file"));
  EXPECT_THAT(client.output(), StartsWith("-: "));
  EXPECT_THAT(client.output(), HasSubstr("source tokens"));
  Process bad({"summarize", "--server", server_->address(), "--param", "num_beams=99"}, SomeText(20));
  EXPECT_EQ(bad.Wait(), 1);
  EXPECT_THAT(bad.error(), HasSubstr("INVALID_ARGUMENT: num_beams is 99"));
  Process list({"summarize", "--server", server_->address(), "--param", "stop_strings=[a,b]"}, SomeText(20));
  EXPECT_EQ(list.Wait(), 1);
  EXPECT_THAT(list.error(), HasSubstr("INVALID_ARGUMENT: stop_strings is a list of 2 and num_beams is 4"));
  Process unknown({"summarize", "--server", server_->address(), "--param", "beams=4"}, SomeText(20));
  EXPECT_EQ(unknown.Wait(), 1);
  EXPECT_THAT(unknown.error(), HasSubstr("--param is \"beams=4\": beams is no decoding parameter"));
}

TEST_F(RpcTest, ClientsStream) {
  Process stream({"summarize", "--server", server_->address(), "--stream"}, SomeText(30));
  Process whole({"summarize", "--server", server_->address()}, SomeText(30));
  EXPECT_EQ(stream.Wait(), 0);
  EXPECT_EQ(whole.Wait(), 0);
  EXPECT_EQ(stream.output(), whole.output());
  EXPECT_GT(whole.output().size(), 1u);
}

TEST_F(RpcTest, ClientsAskAndShow) {
  const std::string context = "Vim is an editor that was written by Bram Moolenaar.";
  Process ask({"questions", "--server", server_->address(), "--answer", "Bram Moolenaar", "--span", "0:3"}, context);
  EXPECT_EQ(ask.Wait(), 0) << ask.error();
  EXPECT_THAT(ask.output(), HasSubstr("A: Bram Moolenaar\n"));
  EXPECT_THAT(ask.output(), HasSubstr("A: Vim\n"));
  Process none({"questions", "--server", server_->address(), "--answer", "Emacs"}, context);
  EXPECT_EQ(none.Wait(), 1);
  EXPECT_THAT(none.error(), HasSubstr("answers[0].text"));
  Process models({"models", "--server", server_->address()});
  EXPECT_EQ(models.Wait(), 0);
  EXPECT_THAT(models.output(), HasSubstr("debian-synopsis\n  family      bart"));
  EXPECT_THAT(models.output(), HasSubstr("1024 decoder tokens (as many as the model's positions allow), "));
  EXPECT_TRUE(server_->process().WaitForOutput("max_tokens_reason=\"as many as the model's positions allow\""));
  Process unknown({"models", "--server", server_->address(), "nothing"});
  EXPECT_EQ(unknown.Wait(), 1);
  EXPECT_THAT(unknown.error(), HasSubstr("NOT_FOUND"));
}

}  // namespace
}  // namespace elserve
