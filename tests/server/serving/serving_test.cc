// A server without ports around a fake engine. It is destroyed while calls are alive: the thread sanitizer runs this.
#include "server/serving/serving.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

class ServingTest : public ::testing::Test {
 protected:
  void Load(bool fail_steps) {
    ServerConfig config;
    config.threads = 2;
    config.models = {FakeModelConfig()};
    auto serving = Serving::Load(config, [&](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
      auto engine = MakeFakeEngine({.max_decoder_tokens = kEndless, .fail_steps = fail_steps});
      engine->on_step = [this, engine = engine.get()] {
        if (engine->in_flight() == 2 && !both_run_.happened()) both_run_.Happen();
      };
      return engine;
    });
    ASSERT_TRUE(serving.ok()) << serving.status();
    serving_ = *std::move(serving);
  }
  // A call that lasts until somebody ends it.
  std::shared_ptr<Call> Start(Rpc rpc, const std::shared_ptr<RecordingListener>& listener) {
    GenerationRequest request;
    request.task = GenerationRequest::Task::kSummarize;
    // Not equal to the other's: they would be one.
    request.input = rpc == Rpc::kSummarize ? "Frob reads mail." : "Frob writes mail.";
    request.parameters.set_max_length(kEndless);
    request.origin = {.rpc = rpc, .arrived = std::chrono::steady_clock::now(), .deadline = std::nullopt};
    auto call = serving_->intake().Accept(request, listener);
    EXPECT_TRUE(call.ok()) << call.status();
    if (!call.ok()) return nullptr;
    listener->call = call->get();
    (*call)->Start();
    return *call;
  }

  Event both_run_;
  std::unique_ptr<Serving> serving_;
};

TEST_F(ServingTest, EndsWithCallsAlive) {
  Load(/*fail_steps=*/false);
  const auto unary_listener = std::make_shared<RecordingListener>();
  const auto stream_listener = std::make_shared<RecordingListener>();
  const std::shared_ptr<Call> unary = Start(Rpc::kSummarize, unary_listener);
  const std::shared_ptr<Call> stream = Start(Rpc::kStreamSummarize, stream_listener);
  both_run_.Wait();
  serving_.reset();
  for (const auto& listener : {unary_listener, stream_listener}) {
    ASSERT_TRUE(listener->done.happened()) << "the server is gone, and the call was not told";
    EXPECT_TRUE(absl::IsUnavailable(listener->answer.status())) << listener->answer.status();
  }
  // A call may outlive all that it came from.
  unary->Cancel();
  stream->Cancel();
}

// The loop tells its watch of the failure after it told the calls.
TEST_F(ServingTest, EndsWhileADeviceFails) {
  Load(/*fail_steps=*/true);
  Event heard;
  serving_->SetFailureListener([&] { heard.Happen(); });
  const auto listener = std::make_shared<RecordingListener>();
  const std::shared_ptr<Call> call = Start(Rpc::kStreamSummarize, listener);
  EXPECT_TRUE(absl::IsInternal(listener->Wait().status()));
  serving_.reset();
  EXPECT_TRUE(heard.happened());
}

TEST_F(ServingTest, SaysWhichModelDoesNotLoad) {
  ServerConfig config;
  config.models = {FakeModelConfig()};
  const auto serving = Serving::Load(config, [](const EngineOptions&) -> absl::StatusOr<std::unique_ptr<Engine>> {
    return absl::InvalidArgumentError("no engine");
  });
  EXPECT_TRUE(absl::IsInvalidArgument(serving.status()));
  EXPECT_THAT(std::string(serving.status().message()), HasSubstr("model fake: no engine"));
}

}  // namespace
}  // namespace elserve
