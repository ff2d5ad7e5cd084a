// Clients that misbehave, in numbers: the server neither breaks nor keeps anything of them.
#include <grpcpp/create_channel.h>

#include <optional>

#include "absl/synchronization/blocking_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

v1::GenerateRequest Long(int tokens, int beams = 1) {
  v1::GenerateRequest request;
  request.set_text(SomeText(30));
  *request.mutable_parameters() = LongAnswer(tokens, beams);
  return request;
}

// A known answer, to see that others did not change it.
std::string Answer(ServerUnderTest& server) {
  v1::SummarizeRequest request;
  request.set_document(SomeText(50));
  grpc::ClientContext context;
  v1::GenerateResponse response;
  EXPECT_TRUE(server.stub().Summarize(&context, request, &response).ok());
  return response.hypotheses_size() == 0 ? "" : response.hypotheses(0).SerializeAsString();
}

// Many unary calls at once, without a thread for each.
class Crowd {
 public:
  Crowd(ServerUnderTest& server, int count, const v1::GenerateRequest& request,
        std::optional<std::chrono::milliseconds> timeout)
      : request_(request), calls_(static_cast<size_t>(count)), left_(count) {
    for (One& one : calls_) {
      if (timeout) one.context.set_deadline(std::chrono::system_clock::now() + *timeout);
      server.stub().async()->Generate(&one.context, &request_, &one.response, [this, &one](grpc::Status status) {
        one.status = std::move(status);
        left_.DecrementCount();
      });
    }
  }
  void Cancel() {
    for (One& one : calls_) one.context.TryCancel();
  }
  // How many ended with the code.
  int Wait(grpc::StatusCode code) {
    if (!waited_) left_.Wait();
    waited_ = true;
    int count = 0;
    for (const One& one : calls_) count += one.status.error_code() == code;
    return count;
  }
  std::string AnError(grpc::StatusCode code) const {
    for (const One& one : calls_) {
      if (one.status.error_code() == code) return one.status.error_message();
    }
    return "";
  }

 private:
  struct One {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    grpc::Status status;
  };
  const v1::GenerateRequest request_;
  std::vector<One> calls_;
  absl::BlockingCounter left_;
  bool waited_ = false;
};

TEST(FaultsTest, AFullQueueRefusesAtOnce) {
  ServerUnderTest server({.model = {"max_queued_requests: 4", "max_rows: 2", "single_flight: false"}});
  Crowd crowd(server, 60, Long(100), std::nullopt);
  const int answered = crowd.Wait(grpc::OK);
  const int refused = crowd.Wait(grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(answered + refused, 60);
  EXPECT_GE(answered, 4);
  EXPECT_GT(refused, 0);
  EXPECT_THAT(crowd.AnError(grpc::RESOURCE_EXHAUSTED), HasSubstr("4"));
  EXPECT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.Metric("elserve_jobs_rejected_total"), refused);
  EXPECT_EQ(server.Metric("elserve_requests_total", "outcome=\"RESOURCE_EXHAUSTED\""), refused);
}

TEST(FaultsTest, ADeadlineStormLeavesNothing) {
  ServerUnderTest server({.model = {"max_rows: 8", "single_flight: false"}});
  const std::string before = Answer(server);
  for (const int milliseconds : {1, 20, 100, 300}) {
    Crowd crowd(server, 150, Long(1000), std::chrono::milliseconds(milliseconds));
    EXPECT_EQ(crowd.Wait(grpc::DEADLINE_EXCEEDED), 150) << milliseconds;
  }
  EXPECT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(Answer(server), before);
}

TEST(FaultsTest, ClientsThatVanishInMidStreamLeaveNothing) {
  // Room for all clients of a round at once, each in the middle of its answer.
  ServerUnderTest server({.model = {"max_rows: 128", "encoder_memory_tokens: 8192", "decoder_memory_tokens: 49152",
                                    "single_flight: false"}});
  const std::string before = Answer(server);
  constexpr int kClients = 500, kAtOnce = 50;
  for (int round = 0; round < kClients / kAtOnce; ++round) {
    // Channels of their own: a vanished client takes its connection along.
    struct Client {
      std::shared_ptr<grpc::Channel> channel;
      std::unique_ptr<v1::GenerationService::Stub> stub;
      grpc::ClientContext context;
      std::unique_ptr<grpc::ClientReader<v1::GenerateChunk>> reader;
    };
    std::vector<Client> clients(kAtOnce);
    for (int i = 0; i < kAtOnce; ++i) {
      grpc::ChannelArguments own;
      own.SetInt("elserve.client", round * kAtOnce + i);
      Client& client = clients[static_cast<size_t>(i)];
      client.channel = grpc::CreateCustomChannel(server.address(), grpc::InsecureChannelCredentials(), own);
      client.stub = v1::GenerationService::NewStub(client.channel);
      client.reader = client.stub->StreamGenerate(&client.context, Long(600, i % 2 + 1));
    }
    v1::GenerateChunk chunk;
    for (Client& client : clients) EXPECT_TRUE(client.reader->Read(&chunk));
    // A batch-mate's answer stays the same to the bit.
    if (round % 4 == 0) {
      EXPECT_EQ(Answer(server), before);
    }
    for (Client& client : clients) client.context.TryCancel();
    for (Client& client : clients) EXPECT_EQ(client.reader->Finish().error_code(), grpc::CANCELLED);
  }
  EXPECT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.Metric("elserve_requests_total", "rpc=\"StreamGenerate\",outcome=\"CANCELLED\"") +
                server.Metric("elserve_requests_total", "outcome=\"CANCELLED\",rpc=\"StreamGenerate\""),
            kClients);
  EXPECT_EQ(Answer(server), before);
}

// The client takes its first message and then nothing, while others are served and its own answer is long done.
TEST(FaultsTest, AReaderWhoStopsHoldsUpNobody) {
  ServerUnderTest server;
  grpc::ClientContext context;
  const auto reader = server.stub().StreamGenerate(&context, Long(1000));
  v1::GenerateChunk chunk;
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_TRUE(server.WaitUntilIdle());
  EXPECT_FALSE(Answer(server).empty());
  std::string text = chunk.delta().text();
  while (reader->Read(&chunk)) text += chunk.delta().text();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, chunk.response().hypotheses(0).text());
}

TEST(FaultsTest, CancelledCallsFreeTheQueue) {
  ServerUnderTest server({.model = {"max_queued_requests: 300", "max_rows: 1", "single_flight: false"}});
  Crowd crowd(server, 200, Long(1000), std::nullopt);
  EXPECT_TRUE(server.WaitForMetric("elserve_queue_length", [](double value) { return value >= 150; }));
  crowd.Cancel();
  EXPECT_EQ(crowd.Wait(grpc::CANCELLED), 200);
  EXPECT_TRUE(server.WaitUntilIdle());
}

}  // namespace
}  // namespace elserve
