// How a server starts and ends.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/synchronization/blocking_counter.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

v1::GenerateRequest Long(int tokens) {
  v1::GenerateRequest request;
  request.set_text(SomeText(30));
  *request.mutable_parameters() = LongAnswer(tokens);
  return request;
}

TEST(LifecycleTest, DrainFinishesWhatRunsAndTakesNothingNew) {
  ServerUnderTest server({.server = {"drain_seconds: 600"}});
  grpc::health::v1::HealthCheckRequest everything;
  grpc::health::v1::HealthCheckResponse health;
  const auto health_stub = grpc::health::v1::Health::NewStub(server.channel());
  grpc::ClientContext watch;
  const auto watcher = health_stub->Watch(&watch, everything);
  ASSERT_TRUE(watcher->Read(&health));

  RunningStream running(server.stub(), Long(1000));
  server.process().Signal(SIGTERM);
  // The server says that it drains before it is waited for.
  ASSERT_TRUE(watcher->Read(&health));
  EXPECT_EQ(health.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(server.Get("/healthz").status, 503);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status refused = server.stub().Generate(&context, Long(1), &response);
  EXPECT_EQ(refused.error_code(), grpc::UNAVAILABLE);

  EXPECT_TRUE(running.Finish().ok());
  EXPECT_EQ(running.last().response().hypotheses(0).token_ids_size(), 1000);
  EXPECT_FALSE(watcher->Read(&health));
  EXPECT_EQ(watcher->Finish().error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(server.process().Wait(), 0);
  EXPECT_THAT(server.process().error(), HasSubstr("stopped"));
}

TEST(LifecycleTest, DrainEndsInTimeWithCodeZero) {
  ServerUnderTest server({.server = {"drain_seconds: 0"}});
  RunningStream running(server.stub(), Long(1000));
  server.process().Signal(SIGTERM);
  EXPECT_EQ(running.Finish().error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(server.process().Wait(), 0);
}

TEST(LifecycleTest, ASecondSignalEndsAtOnce) {
  ServerUnderTest server({.model = {"single_flight: false"}, .server = {"drain_seconds: 600"}});
  // Enough work for minutes.
  constexpr int kCalls = 200;
  struct Call {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    grpc::Status status;
  };
  std::vector<Call> calls(kCalls);
  absl::BlockingCounter left(kCalls);
  const v1::GenerateRequest request = Long(1000);
  for (Call& call : calls) {
    server.stub().async()->Generate(&call.context, &request, &call.response, [&call, &left](grpc::Status status) {
      call.status = std::move(status);
      left.DecrementCount();
    });
  }
  ASSERT_TRUE(server.WaitForMetric("elserve_requests_in_flight", [](double value) { return value == kCalls; }));
  server.process().Signal(SIGINT);
  ASSERT_TRUE(server.process().WaitForOutput("draining"));
  server.process().Signal(SIGINT);
  EXPECT_EQ(server.process().Wait(std::chrono::seconds(30)), 1);
  left.Wait();
  for (const Call& call : calls) EXPECT_EQ(call.status.error_code(), grpc::UNAVAILABLE);
}

TEST(LifecycleTest, APortThatIsTakenIsAnError) {
  ServerUnderTest server;
  const auto path = std::filesystem::temp_directory_path() / ("elserve-taken-" + std::to_string(getpid()) + ".yaml");
  std::ofstream(path) << "server: {ops_listen: \"\"}\nmodels:\n  - {name: m, path: " << ELSERVE_SOURCE_DIR
                      << "/models/debian-synopsis, device: cpu}\n";
  Process second({"serve", "--config", path.string(), "--listen", server.address()});
  EXPECT_EQ(second.Wait(), 1);
  EXPECT_THAT(second.error(), HasSubstr("cannot listen on " + server.address()));
  Process check({"check-config", path.string()});
  EXPECT_EQ(check.Wait(), 0);
  EXPECT_THAT(check.output(), HasSubstr(": ok"));
  std::ofstream(path, std::ios::app) << "servers: {}\n";
  Process bad({"check-config", path.string()});
  EXPECT_EQ(bad.Wait(), 1);
  EXPECT_THAT(bad.error(), HasSubstr(path.string() + ":4: "));
  EXPECT_THAT(bad.error(), HasSubstr("servers"));
  std::filesystem::remove(path);
}

TEST(LifecycleTest, BadCommandLinesAreExplained) {
  Process none({});
  EXPECT_EQ(none.Wait(), 2);
  Process unknown({"serve", "--nothing"});
  EXPECT_EQ(unknown.Wait(), 2);
  Process help({"--help"});
  EXPECT_EQ(help.Wait(), 0);
  EXPECT_THAT(help.output(), HasSubstr("summarize"));
}

TEST(LifecycleTest, SeveralModelsAreServedByName) {
  ServerUnderTest server({.models = 2});
  grpc::ClientContext context;
  v1::GenerateResponse response;
  v1::GenerateRequest request = Long(3);
  EXPECT_EQ(server.stub().Generate(&context, request, &response).error_code(), grpc::INVALID_ARGUMENT);
  request.set_model("second");
  grpc::ClientContext second;
  EXPECT_TRUE(server.stub().Generate(&second, request, &response).ok());
  EXPECT_EQ(response.model(), "second");
}

TEST(LifecycleTest, LogsJsonWhereAsked) {
  ServerUnderTest server({.models = 1, .logging = "{level: debug, format: json}"});
  grpc::ClientContext context;
  v1::GenerateResponse response;
  v1::GenerateRequest request = Long(3);
  request.set_request_id("json-1");
  EXPECT_TRUE(server.stub().Generate(&context, request, &response).ok());
  EXPECT_TRUE(server.process().WaitForOutput(R"("level":"info","request_id":"json-1","message":"ended rpc=Generate)"));
  EXPECT_THAT(server.process().error(), HasSubstr(R"("level":"debug","request_id":"json-1","message":"started)"));
}

}  // namespace
}  // namespace elserve
