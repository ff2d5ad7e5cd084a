// Equal requests to the real binary: computed once, answered to each.
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

constexpr int kKinds = 10;

// Greedy, beams, drawn with a seed; some of one source.
v1::GenerateRequest OfKind(int kind) {
  v1::GenerateRequest request;
  request.set_text(SomeText(20 + 3 * (kind / 2)));
  request.set_token_logprobs(true);
  v1::DecodingParameters& parameters = *request.mutable_parameters();
  parameters.set_max_new_tokens(12 + kind);
  parameters.set_num_beams(kind % 3 == 1 ? 4 : 1);
  if (kind % 3 == 2) {
    parameters.set_do_sample(true);
    parameters.set_seed(static_cast<uint64_t>(kind));
  }
  return request;
}

// With beams, so that it takes a second or so.
v1::GenerateRequest Long(int tokens) {
  v1::GenerateRequest request;
  request.set_text(SomeText(30));
  *request.mutable_parameters() = LongAnswer(tokens, /*beams=*/4);
  return request;
}

struct Call {
  grpc::ClientContext context;
  v1::GenerateRequest request;
  v1::GenerateResponse response;
  grpc::Status status;
};

// `count` requests at once, of one kind after the other.
std::deque<Call> AskAtOnce(ServerUnderTest& server, int count) {
  std::deque<Call> calls(static_cast<size_t>(count));
  absl::BlockingCounter left(count);
  for (int i = 0; i < count; ++i) {
    Call& call = calls[static_cast<size_t>(i)];
    call.request = OfKind(i % kKinds);
    server.stub().async()->Generate(&call.context, &call.request, &call.response, [&call, &left](grpc::Status status) {
      call.status = std::move(status);
      left.DecrementCount();
    });
  }
  left.Wait();
  return calls;
}

std::string Hypotheses(const v1::GenerateResponse& response) {
  std::string all;
  for (const v1::Hypothesis& hypothesis : response.hypotheses()) all += hypothesis.SerializeAsString();
  return all;
}

TEST(ComputedOnceTest, ManyRequestsOfTenKindsCostTen) {
  std::map<int, std::string> alone;
  {
    ServerUnderTest server({.model = {"single_flight: false"}});
    for (int kind = 0; kind < kKinds; ++kind) {
      grpc::ClientContext context;
      v1::GenerateResponse response;
      ASSERT_TRUE(server.stub().Generate(&context, OfKind(kind), &response).ok());
      EXPECT_EQ(response.usage().answered_by(), v1::ANSWERED_BY_COMPUTING);
      alone[kind] = Hypotheses(response);
    }
  }
  ServerUnderTest server({.model = {"answer_cache: 64MiB", "max_queued_requests: 2000"}});
  constexpr int kRequests = 1000;
  const std::deque<Call> calls = AskAtOnce(server, kRequests);
  std::map<v1::AnsweredBy, int> answered_by;
  for (int i = 0; i < kRequests; ++i) {
    const Call& call = calls[static_cast<size_t>(i)];
    ASSERT_TRUE(call.status.ok()) << call.status.error_message();
    EXPECT_EQ(Hypotheses(call.response), alone[i % kKinds]) << i;
    EXPECT_EQ(call.response.usage().steps() > 0, call.response.usage().answered_by() == v1::ANSWERED_BY_COMPUTING);
    EXPECT_GT(call.response.usage().generated_tokens(), 0);
    ++answered_by[call.response.usage().answered_by()];
  }
  EXPECT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.Metric("elserve_jobs_admitted_total"), kKinds);
  EXPECT_EQ(server.Metric("elserve_jobs_finished_total"), kRequests);
  EXPECT_EQ(answered_by[v1::ANSWERED_BY_COMPUTING], kKinds);
  EXPECT_EQ(server.Metric("elserve_jobs_shared_total"), answered_by[v1::ANSWERED_BY_SHARING]);
  EXPECT_EQ(server.Metric("elserve_jobs_cached_total"), answered_by[v1::ANSWERED_BY_CACHE]);
  EXPECT_EQ(server.Metric("elserve_answer_cache_entries"), kKinds);
  EXPECT_GT(server.Metric("elserve_answer_cache_bytes"), 0);

  grpc::ClientContext context;
  v1::Model model;
  ASSERT_TRUE(server.stub().GetModel(&context, {}, &model).ok());
  EXPECT_TRUE(model.limits().single_flight());
  EXPECT_EQ(model.limits().answer_cache_bytes(), 64 << 20);
}

TEST(ComputedOnceTest, StreamsShareAndEndForThemselves) {
  ServerUnderTest server;
  std::string whole;
  {
    RunningStream alone(server.stub(), Long(1000));
    ASSERT_TRUE(alone.Finish().ok());
    whole = alone.text();
  }
  EXPECT_TRUE(server.WaitUntilIdle());
  const double admitted = server.Metric("elserve_jobs_admitted_total");
  RunningStream first(server.stub(), Long(1000)), second(server.stub(), Long(1000));
  v1::GenerateRequest hurried = Long(1000);
  hurried.mutable_parameters()->set_max_time(0.05);
  grpc::ClientContext context;
  v1::GenerateResponse cut;
  ASSERT_TRUE(server.stub().Generate(&context, hurried, &cut).ok());
  EXPECT_EQ(cut.hypotheses(0).finish_reason(), v1::FINISH_REASON_DEADLINE);
  EXPECT_EQ(cut.usage().answered_by(), v1::ANSWERED_BY_SHARING);
  first.Cancel();
  EXPECT_EQ(first.Finish().error_code(), grpc::CANCELLED);
  EXPECT_TRUE(second.Finish().ok());
  EXPECT_EQ(second.text(), whole);
  EXPECT_EQ(second.response().hypotheses(0).text(), whole);
  EXPECT_EQ(second.response().usage().answered_by(), v1::ANSWERED_BY_COMPUTING);  // the oldest that stayed
  EXPECT_EQ(whole.substr(0, first.text().size()), first.text());
  EXPECT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.Metric("elserve_jobs_admitted_total"), admitted + 1);
}

TEST(ComputedOnceTest, AStreamOfAKeptAnswerIsWhole) {
  ServerUnderTest server({.model = {"answer_cache: 1MiB"}});
  RunningStream computed(server.stub(), OfKind(0));
  ASSERT_TRUE(computed.Finish().ok());
  RunningStream kept(server.stub(), OfKind(0));
  ASSERT_TRUE(kept.Finish().ok());
  EXPECT_EQ(kept.text(), computed.text());
  EXPECT_EQ(Hypotheses(kept.response()), Hypotheses(computed.response()));
  EXPECT_EQ(kept.response().usage().answered_by(), v1::ANSWERED_BY_CACHE);
  EXPECT_EQ(kept.response().usage().steps(), 0);
  for (const bool again : {false, true}) {
    Process client({"summarize", "--server", server.address(), "--timings"}, SomeText(40));
    EXPECT_EQ(client.Wait(), 0) << client.error();
    EXPECT_EQ((client.output() + client.error()).find("from the answer cache") != std::string::npos, again)
        << client.output() << client.error();
  }
}

}  // namespace
}  // namespace elserve
