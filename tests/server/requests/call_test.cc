#include "server/requests/call.h"

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/intake.h"
#include "server/rpc/requests.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

TimePoint Now() { return std::chrono::steady_clock::now(); }

v1::SummarizeRequest Document(int max_length) {
  v1::SummarizeRequest request;
  request.set_document("An editor of texts with many commands.");
  request.mutable_parameters()->set_max_length(max_length);
  return request;
}

v1::GenerateQuestionsRequest Questions(int answers, int max_length) {
  v1::GenerateQuestionsRequest request;
  request.set_context("zero one two three four five six seven eight nine");
  static constexpr const char* kWords[] = {"zero", "one", "two", "three", "four", "five"};
  for (int i = 0; i < answers; ++i) request.add_answers()->set_text(kWords[i]);
  request.mutable_parameters()->set_max_length(max_length);
  return request;
}

class CallTest : public ::testing::Test {
 protected:
  void Serve(const FakeModelOptions& options = {}) {
    gate_ = options.gate;
    models_ = std::make_unique<ModelRegistry>(MakeFakeModels({options}));
    intake_ = std::make_unique<Intake>(models_.get(), &executor_, &observer_);
  }
  const ServedModel& model() { return *models_->models().front().served; }
  EngineLoop& loop() { return *models_->models().front().loop; }

  template <typename Request>
  std::shared_ptr<Call> Accept(const Request& request, const CallOrigin& origin) {
    auto call = intake_->Accept(ToGenerationRequest(request, origin), listener_);
    EXPECT_TRUE(call.ok()) << call.status();
    if (!call.ok()) return nullptr;
    listener_->call = call->get();
    return *call;
  }
  template <typename Request>
  std::shared_ptr<Call> Accept(const Request& request, Rpc rpc, std::optional<TimePoint> deadline = std::nullopt) {
    return Accept(request, {.rpc = rpc, .arrived = Now(), .deadline = deadline});
  }
  template <typename Request>
  const absl::StatusOr<CallAnswer>& Run(const Request& request, Rpc rpc,
                                        std::optional<TimePoint> deadline = std::nullopt) {
    return Run(request, {.rpc = rpc, .arrived = Now(), .deadline = deadline});
  }
  template <typename Request>
  const absl::StatusOr<CallAnswer>& Run(const Request& request, const CallOrigin& origin) {
    call_ = Accept(request, origin);
    call_->Start();
    const absl::StatusOr<CallAnswer>& answer = listener_->Wait();
    listener_->Take();
    return answer;
  }
  void ExpectOneRecord(absl::StatusCode outcome) {
    EXPECT_EQ(observer_.started, 1);
    ASSERT_EQ(observer_.records.size(), 1u);
    EXPECT_EQ(observer_.records.front().outcome, outcome);
  }

  RecordingObserver observer_;
  Executor executor_{2};
  std::shared_ptr<Gate> gate_;
  std::unique_ptr<ModelRegistry> models_;
  std::unique_ptr<Intake> intake_;
  // Of Run: kept until the test has read the answer. The thread sanitizer does not see the order in which absl, which
  // is not built with it, gives up a status that the call and the answer share.
  std::shared_ptr<Call> call_;
  std::shared_ptr<RecordingListener> listener_ = std::make_shared<RecordingListener>();
};

TEST_F(CallTest, AnswersWithTextUsageAndWhatWasUsed) {
  Serve();
  v1::SummarizeRequest request = Document(12);
  request.set_request_id("r-1");
  const auto& answer = Run(request, Rpc::kSummarize);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->outputs.size(), 1u);
  ASSERT_EQ(answer->outputs[0].hypotheses.size(), 1u);
  const v1::Hypothesis& hypothesis = answer->outputs[0].hypotheses[0];
  EXPECT_EQ(hypothesis.token_ids_size(), 11);
  EXPECT_EQ(hypothesis.text(), model().tokenizer().Decode(std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
  EXPECT_EQ(hypothesis.token_logprobs_size(), 0);
  EXPECT_EQ(hypothesis.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer->outputs[0].usage->source_tokens(),
            static_cast<int>(model().tokenizer().Encode(request.document())->ids.size()));
  EXPECT_EQ(answer->outputs[0].usage->generated_tokens(), 11);
  EXPECT_FALSE(answer->outputs[0].usage->truncated());
  EXPECT_EQ(answer->effective.max_length(), 12);
  EXPECT_EQ(answer->effective.num_beams(), 1);
  EXPECT_EQ(answer->model, "fake");
  EXPECT_EQ(answer->request_id, "r-1");
  ExpectOneRecord(absl::StatusCode::kOk);
  EXPECT_EQ(observer_.records[0].model, "fake");
  EXPECT_FALSE(observer_.records[0].first_token_seconds.has_value());
  EXPECT_EQ(listener_->notices, 0) << "a unary call has deltas";
}

TEST_F(CallTest, AlternativesAreListedByPlace) {
  Serve();
  v1::SummarizeRequest request = Document(4);
  request.set_top_logprobs(2);
  const auto& answer = Run(request, Rpc::kSummarize);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const v1::Hypothesis& hypothesis = answer->outputs[0].hypotheses[0];
  ASSERT_EQ(hypothesis.top_logprobs_size(), 3);
  for (int place = 0; place < 3; ++place) {
    ASSERT_EQ(hypothesis.top_logprobs(place).tokens_size(), 2) << place;
    for (int rank = 0; rank < 2; ++rank) {
      const v1::TokenLogprob& token = hypothesis.top_logprobs(place).tokens(rank);
      EXPECT_EQ(token.token_id(), place + rank);
      EXPECT_EQ(token.logprob(), static_cast<float>(-1 - rank));
    }
  }
  // Special tokens as they are written.
  EXPECT_EQ(hypothesis.top_logprobs(0).tokens(0).text(), "<s>");
  EXPECT_EQ(hypothesis.top_logprobs(1).tokens(1).text(), "</s>");
}

TEST_F(CallTest, NamesRequestsThatHaveNoId) {
  Serve();
  const auto& answer = Run(Document(3), Rpc::kSummarize);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->request_id.size(), 16u);
}

// The tokens from 0 on hold single bytes of characters, so that text and tokens do not come in step.
TEST_F(CallTest, DeltasJoinToTheFinalAnswer) {
  Serve();
  const auto& answer = Run(Document(900), Rpc::kStreamSummarize);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const v1::Hypothesis& hypothesis = answer->outputs[0].hypotheses[0];
  ASSERT_EQ(listener_->texts.size(), 1u);
  EXPECT_EQ(listener_->texts[0], hypothesis.text());
  EXPECT_EQ(listener_->tokens[0], std::vector<int32_t>(hypothesis.token_ids().begin(), hypothesis.token_ids().end()));
  EXPECT_EQ(hypothesis.token_ids_size(), 899);
  ASSERT_EQ(observer_.records.size(), 1u);
  EXPECT_TRUE(observer_.records[0].first_token_seconds.has_value());
}

// What an answer begins with comes first, in streams too, and is not counted as generated.
TEST_F(CallTest, AnswersBeginWithTheirPrefix) {
  Serve();
  v1::SummarizeRequest request = Document(0);
  request.mutable_parameters()->clear_max_length();
  request.mutable_parameters()->set_max_new_tokens(3);
  request.mutable_prefix_token_ids()->mutable_ids()->Add(70);
  request.mutable_prefix_token_ids()->mutable_ids()->Add(71);
  request.set_token_logprobs(true);
  const auto& answer = Run(request, Rpc::kStreamSummarize);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const v1::Hypothesis& hypothesis = answer->outputs[0].hypotheses[0];
  const std::vector<int32_t> ids(hypothesis.token_ids().begin(), hypothesis.token_ids().end());
  EXPECT_EQ(ids, (std::vector<int32_t>{70, 71, 0, 1, 2}));
  EXPECT_EQ(hypothesis.text(), model().tokenizer().Decode(ids));
  EXPECT_EQ(hypothesis.token_logprobs_size(), 3);
  EXPECT_EQ(answer->outputs[0].usage->generated_tokens(), 3);
  EXPECT_EQ(answer->effective.max_length(), 6);
  EXPECT_EQ(answer->effective.max_new_tokens(), 3);
  ASSERT_EQ(listener_->tokens.size(), 1u);
  EXPECT_EQ(listener_->tokens[0], ids);
  EXPECT_EQ(listener_->texts[0], hypothesis.text());
}

// Special tokens have no text. They are part of the stream all the same.
TEST_F(CallTest, TokensWithoutTextAreStreamed) {
  Serve();
  const auto& answer = Run(Document(3), Rpc::kStreamSummarize);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->outputs[0].hypotheses[0].text(), "");
  ASSERT_EQ(listener_->tokens.size(), 1u);
  EXPECT_EQ(listener_->tokens[0], (std::vector<int32_t>{0, 1}));
}

TEST_F(CallTest, DeltasAreTakenFromEachJobInTurn) {
  Serve();
  listener_->take = false;
  const std::shared_ptr<Call> call = Accept(Questions(3, 20), Rpc::kStreamGenerateQuestions);
  call->Start();
  ASSERT_TRUE(listener_->Wait().ok());
  for (const int job : {0, 1, 2}) {
    const std::optional<CallEvent> event = call->TakeEvent();
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(std::get<CallDelta>(*event).output, job);
    EXPECT_EQ(std::get<CallDelta>(*event).tokens.size(), 19u);
  }
  EXPECT_FALSE(call->TakeEvent().has_value());
}

// What was streamed is not taken back, whatever the engine does.
TEST_F(CallTest, AnAnswerThatIsNotWhatWasStreamedIsAnError) {
  for (const auto& change : std::vector<std::function<void(std::vector<int32_t>*)>>{
           [](std::vector<int32_t>* tokens) { tokens->resize(2); },
           [](std::vector<int32_t>* tokens) { tokens->front() = 77; },
       }) {
    Serve({.on_finished = change});
    listener_ = std::make_shared<RecordingListener>();
    const auto& answer = Run(Document(10), Rpc::kStreamSummarize);
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(answer.status().message()), HasSubstr("took back tokens"));
  }
}

TEST_F(CallTest, DeltasThatNobodyTakesAreJoined) {
  Serve();
  listener_->take = false;
  const auto& answer = Run(Document(500), Rpc::kStreamSummarize);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(listener_->deltas, 1);
  EXPECT_EQ(listener_->texts[0], answer->outputs[0].hypotheses[0].text());
}

TEST_F(CallTest, FoldsManyJobsInTheirOrder) {
  Serve();
  const auto& answer = Run(Questions(6, 9), Rpc::kStreamGenerateQuestions);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->outputs.size(), 6u);
  ASSERT_EQ(answer->answers.size(), 6u);
  ASSERT_EQ(listener_->texts.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(answer->outputs[i].hypotheses[0].token_ids_size(), 8);
    EXPECT_EQ(listener_->texts[i], answer->outputs[i].hypotheses[0].text());
  }
  EXPECT_EQ(answer->answers[1].text(), "one");
  EXPECT_EQ(answer->answers[1].span().begin(), 5);
  EXPECT_EQ(answer->answers[1].span().end(), 8);
}

// Of a request with six jobs, where five may wait, none is computed.
TEST_F(CallTest, AllJobsAreTakenOrNone) {
  Serve({.max_queued_requests = 5});
  const auto& answer = Run(Questions(6, 200), Rpc::kGenerateQuestions);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument) << answer.status();
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("at most 5 (max_queued_requests)"));
  loop().Drain(TimePoint::max());
  EXPECT_EQ(loop().Snapshot().jobs.added, 0);
  EXPECT_EQ(loop().Snapshot().steps, 0);
  ExpectOneRecord(absl::StatusCode::kInvalidArgument);
}

// Of two at once; what they share is told. Nobody learns from it what another principal asks.
TEST_F(CallTest, EqualCallsOfOnePrincipalShare) {
  for (const auto& [principal, share] : {std::pair{"a", true}, std::pair{"b", false}}) {
    auto gate = std::make_shared<Gate>();
    gate->Close();
    Serve({.gate = gate});
    auto other_listener = std::make_shared<RecordingListener>();
    listener_ = std::make_shared<RecordingListener>();
    const std::shared_ptr<Call> first =
        Accept(Document(12), {.rpc = Rpc::kSummarize, .arrived = Now(), .deadline = {}, .principal = "a"});
    std::swap(listener_, other_listener);
    const std::shared_ptr<Call> second =
        Accept(Document(12), {.rpc = Rpc::kSummarize, .arrived = Now(), .deadline = {}, .principal = principal});
    first->Start();
    second->Start();
    gate->Open();
    ASSERT_TRUE(other_listener->Wait().ok());
    ASSERT_TRUE(listener_->Wait().ok());
    const CallOutput &computed = other_listener->answer->outputs[0], &shared = listener_->answer->outputs[0];
    EXPECT_EQ(computed.usage->answered_by(), v1::ANSWERED_BY_COMPUTING);
    EXPECT_EQ(shared.usage->answered_by(), share ? v1::ANSWERED_BY_SHARING : v1::ANSWERED_BY_COMPUTING);
    EXPECT_EQ(shared.usage->generated_tokens(), 11);
    EXPECT_EQ(shared.usage->steps(), share ? 0 : 11);
    EXPECT_EQ(shared.hypotheses[0].SerializeAsString(), computed.hypotheses[0].SerializeAsString());
  }
}

TEST_F(CallTest, ADeviceThatFailsIsTheCallsError) {
  Serve({.fail_steps = true});
  const auto& answer = Run(Questions(3, 5), Rpc::kGenerateQuestions);
  EXPECT_TRUE(absl::IsInternal(answer.status()) || absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_FALSE(loop().healthy());
}

TEST_F(CallTest, CancelBeforeStart) {
  Serve();
  const std::shared_ptr<Call> call = Accept(Questions(2, 5), Rpc::kGenerateQuestions);
  call->Cancel();
  call->Start();
  EXPECT_EQ(listener_->Wait().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(loop().Snapshot().jobs.added, 0);
  ExpectOneRecord(absl::StatusCode::kCancelled);
}

// What the model refuses is the answer, not that the client had gone by then.
TEST_F(CallTest, CancelHidesNoOtherError) {
  Serve();
  const std::shared_ptr<Call> call = Accept(Document(5), Rpc::kSummarize);
  loop().Stop();
  call->Cancel();
  call->Start();
  EXPECT_EQ(listener_->Wait().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(CallTest, CancelWhileItRuns) {
  auto gate = std::make_shared<Gate>();
  gate->Close();
  Serve({.gate = gate});
  const std::shared_ptr<Call> call = Accept(Document(1000), Rpc::kStreamSummarize);
  call->Start();
  call->Cancel();
  gate->Open();
  EXPECT_EQ(listener_->Wait().status().code(), absl::StatusCode::kCancelled);
  call->Cancel();  // too late: nothing
  ExpectOneRecord(absl::StatusCode::kCancelled);
}

TEST_F(CallTest, ADeadlineThatPassedIsDeadlineExceeded) {
  Serve();
  const auto& answer = Run(Document(5), Rpc::kSummarize, std::chrono::steady_clock::now() - std::chrono::seconds(1));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded) << answer.status();
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("s in the queue"));
  ExpectOneRecord(absl::StatusCode::kDeadlineExceeded);
  EXPECT_GT(observer_.records[0].longest_queue_seconds, 0);
}

// gRPC cancels calls at their deadline: that is what the client asked for, not that it went away.
TEST_F(CallTest, CancelAfterTheDeadlineIsDeadlineExceeded) {
  auto gate = std::make_shared<Gate>();
  gate->Close();
  Serve({.gate = gate});
  const std::shared_ptr<Call> call =
      Accept(Document(1000), Rpc::kSummarize, std::chrono::steady_clock::now() - std::chrono::seconds(1));
  call->Start();
  call->Cancel();
  gate->Open();
  EXPECT_EQ(listener_->Wait().status().code(), absl::StatusCode::kDeadlineExceeded);
}

// The client's clock may run out before the server's, which a cancellation tells.
TEST_F(CallTest, CancelNearTheDeadlineIsDeadlineExceeded) {
  for (const auto& [left, code] : {std::pair{seconds(2), absl::StatusCode::kDeadlineExceeded},
                                   std::pair{seconds(50), absl::StatusCode::kCancelled}}) {
    auto gate = std::make_shared<Gate>();
    gate->Close();
    Serve({.gate = gate});
    listener_ = std::make_shared<RecordingListener>();
    const TimePoint now = Now();
    const std::shared_ptr<Call> call =
        Accept(Document(1000), {.rpc = Rpc::kSummarize, .arrived = now - seconds(100), .deadline = now + left});
    call->Start();
    call->Cancel();
    gate->Open();
    EXPECT_EQ(listener_->Wait().status().code(), code);
    EXPECT_EQ(observer_.records.back().outcome, code);
  }
}

// The client has its word from gRPC by then: the records have to say the same.
TEST_F(CallTest, AnAnswerAfterTheDeadlineIsTooLate) {
  const TimePoint deadline = Now() + seconds(1);
  Serve({.on_finished = [deadline](std::vector<int32_t>*) {
    while (Now() < deadline) std::this_thread::yield();
  }});
  const auto& answer = Run(Document(3), Rpc::kSummarize, deadline);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded) << answer.status();
  ExpectOneRecord(absl::StatusCode::kDeadlineExceeded);
  loop().Drain(TimePoint::max());
  EXPECT_EQ(loop().Snapshot().jobs.finished, 1) << "it was no answer that came too late";
}

TEST_F(CallTest, AnAnswerForAClientThatWentAwayIsCancelled) {
  Call* call = nullptr;
  Serve({.on_finished = [&call](std::vector<int32_t>*) { call->Cancel(); }});
  const std::shared_ptr<Call> accepted = Accept(Document(3), Rpc::kSummarize);
  call = accepted.get();
  accepted->Start();
  EXPECT_EQ(listener_->Wait().status().code(), absl::StatusCode::kCancelled);
  ExpectOneRecord(absl::StatusCode::kCancelled);
  loop().Drain(TimePoint::max());
  EXPECT_EQ(loop().Snapshot().jobs.finished, 1) << "there was no answer";
}

TEST_F(CallTest, TheDeadlineFailsAnAnswerThatIsNotComplete) {
  Serve({.max_decoder_tokens = kEndless});
  const auto& answer = Run(Document(kEndless), Rpc::kStreamSummarize, Now() + milliseconds(100));
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded) << answer.status();
  ExpectOneRecord(absl::StatusCode::kDeadlineExceeded);
  loop().Drain(TimePoint::max());
  EXPECT_EQ(loop().Snapshot().jobs.expired, 1);
}

// A twentieth of the 22 s before the deadline.
TEST_F(CallTest, BestSoFarIsAnsweredBeforeTheDeadline) {
  Serve({.max_decoder_tokens = kEndless});
  v1::SummarizeRequest request = Document(kEndless);
  request.set_on_deadline(v1::ON_DEADLINE_BEST_SO_FAR);
  const TimePoint now = Now();
  const auto& answer =
      Run(request, {.rpc = Rpc::kStreamSummarize, .arrived = now - seconds(20), .deadline = now + milliseconds(2100)});
  ASSERT_TRUE(answer.ok()) << answer.status();
  const v1::Hypothesis& hypothesis = answer->outputs[0].hypotheses[0];
  EXPECT_EQ(hypothesis.finish_reason(), v1::FINISH_REASON_DEADLINE);
  EXPECT_GT(hypothesis.token_ids_size(), 0);
  EXPECT_EQ(listener_->texts[0], hypothesis.text());
  EXPECT_EQ(listener_->tokens[0].size(), static_cast<size_t>(hypothesis.token_ids_size()));
  ExpectOneRecord(absl::StatusCode::kOk);
}

// Of two jobs at once, from the arrival on.
TEST_F(CallTest, AtMaxTimeEachAnswerIsWhatThereIs) {
  Serve({.max_decoder_tokens = kEndless});
  v1::GenerateQuestionsRequest request = Questions(2, kEndless);
  request.mutable_parameters()->set_max_time(101);
  const auto& answer =
      Run(request, {.rpc = Rpc::kGenerateQuestions, .arrived = Now() - seconds(100), .deadline = std::nullopt});
  ASSERT_TRUE(answer.ok()) << answer.status();
  for (const CallOutput& job : answer->outputs) {
    EXPECT_EQ(job.hypotheses[0].finish_reason(), v1::FINISH_REASON_DEADLINE);
    EXPECT_GT(job.hypotheses[0].token_ids_size(), 0);
  }
  EXPECT_EQ(answer->effective.max_time(), 101);
  ExpectOneRecord(absl::StatusCode::kOk);
}

// The second of them waits for the first.
TEST_F(CallTest, OneAnswerWithoutATokenAtMaxTimeFailsTheCall) {
  Serve(
      {.capacity = {.rows = 1, .encoder_pages = 100, .decoder_blocks = 8, .edits = 8}, .max_decoder_tokens = kEndless});
  v1::GenerateQuestionsRequest request = Questions(2, kEndless);
  request.mutable_parameters()->set_max_time(100.25);
  const auto& answer =
      Run(request, {.rpc = Rpc::kGenerateQuestions, .arrived = Now() - seconds(100), .deadline = std::nullopt});
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kDeadlineExceeded) << answer.status();
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("max_time, 100.25 s, passed after 0."));
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("s in the queue"));
  ExpectOneRecord(absl::StatusCode::kDeadlineExceeded);
}

// Who owns a model ends its calls: the unary and the streaming one here, and one that was not started yet. They may be
// used on, and refuse.
TEST_F(CallTest, ModelsThatEndEndTheirCalls) {
  Serve({.max_decoder_tokens = kEndless});
  const std::shared_ptr<Call> unary = Accept(Document(kEndless), Rpc::kSummarize);
  const auto unary_listener = std::exchange(listener_, std::make_shared<RecordingListener>());
  const std::shared_ptr<Call> stream = Accept(Document(kEndless), Rpc::kStreamSummarize);
  const auto stream_listener = std::exchange(listener_, std::make_shared<RecordingListener>());
  const std::shared_ptr<Call> late = Accept(Document(kEndless), Rpc::kStreamSummarize);
  unary->Start();
  stream->Start();
  models_.reset();
  EXPECT_EQ(unary_listener->Wait().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(stream_listener->Wait().status().code(), absl::StatusCode::kUnavailable);
  stream->Cancel();
  late->Start();
  EXPECT_EQ(listener_->Wait().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(observer_.records.size(), 3u);
}

// What a call holds of its model may be let go of on the engine's thread, the last of it too: that ends no loop, for
// which the thread would have to wait for itself.
TEST_F(CallTest, TheEnginesThreadMayLetGoOfAModel) {
  std::vector<RunningModel> models = MakeFakeModels();
  const std::weak_ptr<const ServedModel> served = models.front().served;
  {
    const TestJob made = MakeJob({});
    made.sink->on_done = [held = std::move(models.front().served)] {};
    EXPECT_TRUE(models.front().loop->inbox()->Submit({made.job}).ok());
  }
  models.front().loop->Drain(TimePoint::max());
  EXPECT_TRUE(served.expired());
  EXPECT_EQ(models.front().loop->Snapshot().jobs.finished, 1);
}

TEST_F(CallTest, DrainingRefusesAndReports) {
  Serve();
  intake_->StartDraining();
  const auto call = intake_->Accept(
      ToGenerationRequest(Document(5), {.rpc = Rpc::kSummarize, .arrived = {}, .deadline = {}}), listener_);
  EXPECT_EQ(call.status().code(), absl::StatusCode::kUnavailable);
  ExpectOneRecord(absl::StatusCode::kUnavailable);
}

TEST_F(CallTest, WhatTheLoopRefusesIsTheAnswer) {
  Serve({.capacity = {.rows = 2, .encoder_pages = 8, .decoder_blocks = 8, .edits = 8}});
  v1::SummarizeRequest request = Document(5);
  request.mutable_parameters()->set_num_beams(3);
  const auto& answer = Run(request, Rpc::kSummarize);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("num_beams"));
}

}  // namespace
}  // namespace elserve
