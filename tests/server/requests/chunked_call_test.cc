// Long documents as calls on the fake engine, which answers tokens 0, 1, 2, ...: rounds, drains, time.
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/intake.h"
#include "server/rpc/requests.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

TimePoint Now() { return std::chrono::steady_clock::now(); }

class ChunkedCallTest : public ::testing::Test {
 protected:
  static constexpr int kWindows = 20;

  // A queue with as many places as there are windows; `rows`: sequences at a time.
  void Serve(int64_t rows = kWindows) {
    Resources capacity = FakeModelEngine::kCapacity;
    capacity.rows = rows;
    models_ = std::make_unique<ModelRegistry>(MakeFakeModels({{.max_queued_requests = kWindows,
                                                               .gate = gate_,
                                                               .capacity = capacity,
                                                               .max_source_tokens = 64,
                                                               .max_decoder_tokens = kEndless}}));
    intake_ = std::make_unique<Intake>(models_.get(), &executor_, &observer_);
  }
  EngineLoop& loop() { return *models_->models().front().loop; }

  // A document of kWindows windows, summarized until one is left; answers of a few characters.
  static GenerationRequest Rounds(Rpc rpc = Rpc::kStreamSummarize) {
    GenerationRequest request;
    request.task = GenerationRequest::Task::kSummarize;
    std::string document;
    for (int i = 0; i < kWindows; ++i) document += "Sentence " + std::to_string(100 + i) + " has some more words. ";
    request.input = document;
    request.truncation = v1::TRUNCATION_CHUNK;
    request.chunk.emplace().set_window_tokens(20);
    request.chunk->set_overlap_tokens(0);
    request.chunk->set_join(v1::JOIN_RESUMMARIZE);
    request.chunk->set_max_rounds(16);
    request.parameters.set_max_length(12);
    request.origin = {.rpc = rpc, .arrived = Now(), .deadline = std::nullopt, .principal = {}};
    return request;
  }
  std::shared_ptr<Call> Start(const GenerationRequest& request) {
    auto call = intake_->Accept(request, listener_);
    EXPECT_TRUE(call.ok()) << call.status();
    if (!call.ok()) return nullptr;
    listener_->call = call->get();
    (*call)->Start();
    return *call;
  }
  void ExpectNothingIsLeft() {
    loop().Drain(TimePoint::max());
    const LoopSnapshot snapshot = loop().Snapshot();
    EXPECT_EQ(snapshot.used, Resources{});
    EXPECT_EQ(snapshot.queued, 0);
    EXPECT_EQ(snapshot.jobs.added,
              snapshot.jobs.finished + snapshot.jobs.cancelled + snapshot.jobs.expired + snapshot.jobs.failed);
  }

  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  RecordingObserver observer_;
  Executor executor_{2};
  std::unique_ptr<ModelRegistry> models_;
  std::unique_ptr<Intake> intake_;
  std::shared_ptr<RecordingListener> listener_ = std::make_shared<RecordingListener>();
};

TEST_F(ChunkedCallTest, RoundsFollowUponEachOther) {
  Serve();
  const auto call = Start(Rounds());
  ASSERT_TRUE(listener_->Wait().ok()) << listener_->answer.status();
  listener_->Take();
  const CallAnswer& answer = *listener_->answer;
  EXPECT_GE(answer.parts.back().round(), 3);
  EXPECT_EQ(answer.parts.back().count(), 1);
  EXPECT_EQ(answer.parts[0].count(), kWindows);
  EXPECT_EQ(listener_->texts.at(0), answer.outputs[0].hypotheses[0].text());
  EXPECT_EQ(listener_->parts.size(), answer.parts.size());
  EXPECT_EQ(answer.effective.max_length(), 12);
  ExpectNothingIsLeft();
}

// What was accepted finishes: what follows has room in a queue that others have filled, and a drain waits for it.
TEST_F(ChunkedCallTest, RoundsFollowInAFullQueueAndInADrain) {
  gate_->Close();
  Serve(/*rows=*/1);
  const auto call = Start(Rounds());
  std::thread drain([this] { loop().Drain(TimePoint::max()); });
  GenerationRequest other = Rounds(Rpc::kSummarize);
  while (true) {
    const auto refused = std::make_shared<RecordingListener>();
    const auto late = intake_->Accept(other, refused);
    ASSERT_TRUE(late.ok());
    refused->call = late->get();
    (*late)->Start();
    refused->Wait();
    if (absl::IsUnavailable(refused->answer.status())) break;
    EXPECT_TRUE(absl::IsResourceExhausted(refused->answer.status())) << refused->answer.status();
  }
  gate_->Open();
  ASSERT_TRUE(listener_->Wait().ok()) << listener_->answer.status();
  EXPECT_GE(listener_->answer->parts.back().round(), 3);
  drain.join();
  ExpectNothingIsLeft();
}

TEST_F(ChunkedCallTest, ADrainWithoutTimeEndsTheCallOnce) {
  gate_->Close();
  Serve();
  const auto call = Start(Rounds());
  std::thread drain([this] { loop().Drain(Now()); });
  gate_->Open();
  listener_->Wait();
  drain.join();
  // Where the loop was quick, all rounds came to their end before.
  EXPECT_TRUE(listener_->answer.ok() || absl::IsUnavailable(listener_->answer.status())) << listener_->answer.status();
  ExpectNothingIsLeft();
}

// In whichever round.
TEST_F(ChunkedCallTest, CancellingLeavesNothing) {
  for (const int parts : {0, kWindows + 1}) {
    listener_ = std::make_shared<RecordingListener>();
    Serve();
    GenerationRequest request = Rounds();
    const auto call = Start(request);
    while (!listener_->done.happened() && observer_.started == 0) std::this_thread::yield();
    if (parts == 0) {
      call->Cancel();
    } else {
      std::thread cancel([&] {
        while (loop().Snapshot().jobs.added <= kWindows && !listener_->done.happened()) std::this_thread::yield();
        call->Cancel();
      });
      cancel.join();
    }
    listener_->Wait();
    EXPECT_TRUE(listener_->answer.ok() || absl::IsCancelled(listener_->answer.status()));
    ExpectNothingIsLeft();
  }
}

TEST_F(ChunkedCallTest, AnswersOfAnyLengthAreCancelled) {
  Serve();
  GenerationRequest request = Rounds();
  request.parameters.set_max_length(kEndless);
  const auto call = Start(request);
  while (loop().Snapshot().in_flight < 10) std::this_thread::yield();
  call->Cancel();
  EXPECT_TRUE(absl::IsCancelled(listener_->Wait().status()));
  ExpectNothingIsLeft();
  EXPECT_EQ(loop().Snapshot().jobs.cancelled, kWindows);
}

// With room for one sequence the others wait until time is over: what there is of the one is the answer.
TEST_F(ChunkedCallTest, MaxTimeLeavesWhatThereIs) {
  Serve(/*rows=*/1);
  GenerationRequest request = Rounds();
  request.parameters.set_max_length(kEndless);
  request.parameters.set_max_time(0.5);
  const auto call = Start(request);
  ASSERT_TRUE(listener_->Wait().ok()) << listener_->answer.status();
  listener_->Take();
  const CallAnswer& answer = *listener_->answer;
  const v1::Hypothesis& joined = answer.outputs[0].hypotheses[0];
  EXPECT_EQ(joined.finish_reason(), v1::FINISH_REASON_DEADLINE);
  EXPECT_GT(joined.text().size(), 0u);
  ASSERT_EQ(answer.parts.size(), static_cast<size_t>(kWindows));
  EXPECT_EQ(joined.text(), answer.parts[0].hypothesis().text());
  EXPECT_EQ(answer.parts[1].hypothesis().text(), "");
  EXPECT_EQ(answer.parts[1].hypothesis().finish_reason(), v1::FINISH_REASON_DEADLINE);
  EXPECT_EQ(listener_->texts.at(0), joined.text());
  ExpectNothingIsLeft();
}

TEST_F(ChunkedCallTest, BeforeAnyTokenTimeIsAnError) {
  Serve();
  GenerationRequest request = Rounds();
  request.parameters.set_max_time(0.5);
  request.origin.arrived = Now() - std::chrono::seconds(1);
  const auto call = Start(request);
  listener_->Wait();
  EXPECT_TRUE(absl::IsDeadlineExceeded(listener_->answer.status())) << listener_->answer.status();
  EXPECT_THAT(std::string(listener_->answer.status().message()), HasSubstr("max_time"));
  ExpectNothingIsLeft();
}

}  // namespace
}  // namespace elserve
