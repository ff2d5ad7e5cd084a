#include "server/ops/metrics.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(MetricsTest, CountsCallsByRpcAndOutcome) {
  Metrics metrics;
  metrics.OnCallStarted(Rpc::kSummarize);
  metrics.OnCallStarted(Rpc::kSummarize);
  EXPECT_THAT(metrics.Text({}), HasSubstr("elserve_requests_in_flight{rpc=\"Summarize\"} 2\n"));
  CallRecord record;
  record.model = "m";
  record.rpc = Rpc::kSummarize;
  record.seconds = 0.25;
  record.longest_queue_seconds = 0.125;
  metrics.OnCallEnded(record);
  record.outcome = absl::StatusCode::kResourceExhausted;
  metrics.OnCallEnded(record);
  const std::string text = metrics.Text({});
  EXPECT_THAT(text, HasSubstr("elserve_requests_in_flight{rpc=\"Summarize\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("elserve_requests_total{model=\"m\",outcome=\"OK\",rpc=\"Summarize\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("outcome=\"RESOURCE_EXHAUSTED\",rpc=\"Summarize\"} 1\n"));
  // The latency is that of answers.
  EXPECT_THAT(text, HasSubstr("elserve_request_seconds_count{model=\"m\",rpc=\"Summarize\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("elserve_request_seconds_sum{model=\"m\",rpc=\"Summarize\"} 0.25\n"));
  EXPECT_THAT(text, HasSubstr("elserve_queue_seconds_count{model=\"m\"} 2\n"));
  // From 1 ms to 1000 s by 1, 2, 5.
  for (const char* bound : {"0.001", "0.002", "0.005", "0.5", "500", "1000", "+Inf"}) {
    EXPECT_THAT(text, HasSubstr(std::string("elserve_queue_seconds_bucket{model=\"m\",le=\"") + bound + "\"}"));
  }
  EXPECT_THAT(text, Not(HasSubstr("le=\"2000\"")));
  EXPECT_THAT(text, Not(HasSubstr("elserve_time_to_first_token_seconds_count")));
}

TEST(MetricsTest, ShowsStepsAndTheLoop) {
  Metrics metrics;
  StepMetrics* steps = metrics.AddModel("fake");
  EXPECT_EQ(metrics.AddModel("fake"), steps);
  StepObservation step;
  step.rows = 5;
  step.documents = 2;
  step.times.decode = 0.5;
  step.seconds = 0.75;
  steps->OnStep(step);
  const std::string text = metrics.Text(MakeFakeModels());
  EXPECT_THAT(text, HasSubstr("elserve_step_rows_sum{model=\"fake\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("elserve_step_documents_sum{model=\"fake\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("elserve_step_phase_seconds_sum{model=\"fake\",phase=\"decode\"} 0.5\n"));
  EXPECT_THAT(text, HasSubstr("elserve_step_seconds_sum{model=\"fake\"} 0.75\n"));
  EXPECT_THAT(text, HasSubstr("elserve_queue_length{model=\"fake\"} 0\n"));
  for (const char* name : {"hits_total", "misses_total", "evictions_total", "kept_tokens"}) {
    EXPECT_THAT(text, HasSubstr(std::string("elserve_encoder_cache_") + name + "{model=\"fake\"} 0\n"));
  }
  for (const char* name : {"jobs_shared_total", "jobs_cached_total", "answer_cache_bytes", "answer_cache_entries",
                           "answer_cache_evictions_total"}) {
    EXPECT_THAT(text, HasSubstr(std::string("elserve_") + name + "{model=\"fake\"} 0\n"));
  }
  EXPECT_THAT(text, HasSubstr("elserve_healthy{model=\"fake\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("elserve_model_info{model=\"fake\",family=\"bart\",device=\"\",device_name=\"\","
                              "precision=\"float32\",attention=\"el\"} 1\n"));
  // 64 tokens of 100 bytes a page, 16 positions of 10 bytes a block.
  EXPECT_THAT(text, HasSubstr("elserve_memory_capacity_bytes{model=\"fake\"} " +
                              std::to_string((int64_t{1} << 20) * (64 * 100 + 16 * 10)) + "\n"));
}

}  // namespace
}  // namespace elserve
