// A whole server around a fake engine, which is destroyed while requests run.
#include "server/commands/server_process.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

v1::SummarizeRequest Endless(const std::string& document) {
  v1::SummarizeRequest request;
  request.set_document(document);
  request.mutable_parameters()->set_max_length(kEndless);
  return request;
}

class ServerProcessTest : public ::testing::Test {
 protected:
  void Start(bool fail_steps) {
    ServerConfig config;
    config.listen = "127.0.0.1:0";
    config.ops_listen = "127.0.0.1:0";
    config.models = {FakeModelConfig()};
    auto process = ServerProcess::Start(config, [&](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
      auto engine = MakeFakeEngine({.max_decoder_tokens = kEndless, .fail_steps = fail_steps});
      engine->on_step = [this, engine = engine.get()] {
        if (engine->in_flight() == 2 && !both_run_.happened()) both_run_.Happen();
      };
      return engine;
    });
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = *std::move(process);
    stub_ = v1::GenerationService::NewStub(
        grpc::CreateChannel("127.0.0.1:" + std::to_string(process_->port()), grpc::InsecureChannelCredentials()));
  }
  grpc::Status Summarize() {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return stub_->Summarize(&context, Endless("Frob reads mail."), &response);
  }
  grpc::Status StreamSummarize() {
    grpc::ClientContext context;
    const auto reader = stub_->StreamSummarize(&context, Endless("Frob writes mail."));
    for (v1::GenerateChunk chunk; reader->Read(&chunk);) {
    }
    return reader->Finish();
  }

  Event both_run_;
  std::unique_ptr<ServerProcess> process_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

// The loop ends first, and the calls are told while all that they use is there.
TEST_F(ServerProcessTest, EndsWithCallsAlive) {
  Start(/*fail_steps=*/false);
  grpc::Status unary, stream;
  std::thread a([&] { unary = Summarize(); });
  std::thread b([&] { stream = StreamSummarize(); });
  both_run_.Wait();
  process_.reset();
  a.join();
  b.join();
  for (const grpc::Status& status : {unary, stream}) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr("shut down before the request was finished"));
  }
}

// The loop tells its watch of the failure after it told the calls.
TEST_F(ServerProcessTest, EndsWhileADeviceFails) {
  Start(/*fail_steps=*/true);
  EXPECT_EQ(Summarize().error_code(), grpc::StatusCode::INTERNAL);
  process_.reset();
}

}  // namespace
}  // namespace elserve
