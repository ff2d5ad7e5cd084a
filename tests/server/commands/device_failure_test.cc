// A device that fails while it serves, as clients see it: what runs ends with INTERNAL, what waits and what comes later
// with UNAVAILABLE; health says NOT_SERVING, the server goes on answering and ends when it is told to.
#include <grpcpp/grpcpp.h>

#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "server/rpc/server.h"
#include "server/serving/serving.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

class DeviceFailureTest : public testing::Test {
 protected:
  DeviceFailureTest() {
    gate_->Close();
    ServerConfig config;
    config.models = {FakeModelConfig()};
    auto serving = Serving::Load(config, [this](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
      // One request at a time: of two, one runs and one waits.
      return MakeFakeEngine({.gate = gate_,
                             .capacity = {.rows = 1, .encoder_pages = 1, .decoder_blocks = 1, .edits = 1},
                             .fail_steps = true});
    });
    EXPECT_TRUE(serving.ok()) << serving.status();
    serving_ = *std::move(serving);
    auto server = RpcServer::Start({.listen = "127.0.0.1:0"}, &serving_->intake());
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    serving_->SetFailureListener([this] { server_->health().Refresh(); });
    const auto channel =
        grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->port()), grpc::InsecureChannelCredentials());
    stub_ = v1::GenerationService::NewStub(channel);
    health_ = Health::NewStub(channel);
  }
  ~DeviceFailureTest() override {
    gate_->Open();
    serving_->End(TimePoint::max());
  }

  // Equal documents would be one sequence.
  grpc::Status Summarize(const std::string& document = "Frob reads mail.") {
    v1::SummarizeRequest request;
    request.set_document(document);
    request.mutable_parameters()->set_max_length(100);
    grpc::ClientContext context;
    v1::GenerateResponse response;
    return stub_->Summarize(&context, request, &response);
  }
  HealthCheckResponse::ServingStatus Check(const std::string& service) {
    grpc::ClientContext context;
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    EXPECT_TRUE(health_->Check(&context, request, &response).ok());
    return response.status();
  }

  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  std::unique_ptr<Serving> serving_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  std::unique_ptr<Health::Stub> health_;
};

TEST_F(DeviceFailureTest, EndsWhatRunsAndRefusesTheRest) {
  grpc::ClientContext watching;
  HealthCheckRequest of_model;
  of_model.set_service("fake");
  const auto watch = health_->Watch(&watching, of_model);
  HealthCheckResponse state;
  ASSERT_TRUE(watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::SERVING);
  EXPECT_THAT(serving_->MetricsText(), HasSubstr("elserve_healthy{model=\"fake\"} 1\n"));

  grpc::Status first, second;
  std::thread a([&] { first = Summarize(); });
  std::thread b([&] { second = Summarize("Frob writes mail."); });
  gate_->Open();
  a.join();
  b.join();
  if (first.error_code() != grpc::StatusCode::INTERNAL) std::swap(first, second);
  EXPECT_EQ(first.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(first.error_message(), HasSubstr("fell off the bus"));
  EXPECT_EQ(second.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(second.error_message(), HasSubstr("fell off the bus"));

  ASSERT_TRUE(watch->Read(&state));
  EXPECT_EQ(state.status(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Check("fake"), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(Check(""), HealthCheckResponse::NOT_SERVING);
  EXPECT_THAT(serving_->MetricsText(), HasSubstr("elserve_healthy{model=\"fake\"} 0\n"));
  EXPECT_THAT(server_->health().UnhealthyReason(), HasSubstr("fake"));
  watching.TryCancel();

  const grpc::Status later = Summarize();
  EXPECT_EQ(later.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(later.error_message(), HasSubstr("device failed"));
  // What needs no device goes on.
  grpc::ClientContext context;
  v1::Model described;
  v1::GetModelRequest request;
  request.set_model("fake");
  EXPECT_TRUE(stub_->GetModel(&context, request, &described).ok());
  // Nothing is left to wait for.
  serving_->End(TimePoint::max());
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::minutes(1));
}

}  // namespace
}  // namespace elserve
