#include "server/ops/metrics.h"

#include <prometheus/text_serializer.h>

#include <cmath>
#include <utility>

#include "server/ops/snapshot_metrics.h"

namespace elserve {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;
using prometheus::Histogram;

// 1, 2, 5, 10, ... times 10 ** first, up to 10 ** last.
Histogram::BucketBoundaries Decades(int first, int last) {
  Histogram::BucketBoundaries bounds;
  for (int exponent = first; exponent < last; ++exponent) {
    for (const double digit : {1.0, 2.0, 5.0}) bounds.push_back(digit * std::pow(10.0, exponent));
  }
  bounds.push_back(std::pow(10.0, last));
  return bounds;
}

Histogram::BucketBoundaries Seconds() { return Decades(-3, 3); }      // 1 ms to 1000 s
Histogram::BucketBoundaries StepSeconds() { return Decades(-5, 1); }  // 10 us to 10 s
Histogram::BucketBoundaries Counts() { return {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}; }

// "OK", "INVALID_ARGUMENT", ...
std::string Outcome(absl::StatusCode code) { return absl::StatusCodeToString(code); }

}  // namespace

StepMetrics::StepMetrics(prometheus::Registry* registry, const std::string& model) {
  const prometheus::Labels label{{"model", model}};
  seconds_ = &BuildHistogram()
                  .Name("elserve_step_seconds")
                  .Help("One step of the engine, as its loop sees it.")
                  .Register(*registry)
                  .Add(label, StepSeconds());
  auto& phases = BuildHistogram()
                     .Name("elserve_step_phase_seconds")
                     .Help(
                         "Parts of a step: encode (answers' prefixes, too), decode, select (candidates of each row), "
                         "search (on the host).")
                     .Register(*registry);
  const auto phase = [&](const char* name) { return &phases.Add({{"model", model}, {"phase", name}}, StepSeconds()); };
  encode_ = phase("encode");
  decode_ = phase("decode");
  select_ = phase("select");
  search_ = phase("search");
  rows_ = &BuildHistogram()
               .Name("elserve_step_rows")
               .Help("Rows (hypotheses) decoded in a step.")
               .Register(*registry)
               .Add(label, Counts());
  documents_ = &BuildHistogram()
                    .Name("elserve_step_documents")
                    .Help("Documents decoded in a step.")
                    .Register(*registry)
                    .Add(label, Counts());
}

void StepMetrics::OnStep(const StepObservation& step) {
  seconds_->Observe(step.seconds);
  encode_->Observe(step.times.encode);
  decode_->Observe(step.times.decode);
  select_->Observe(step.times.select);
  search_->Observe(step.times.search);
  rows_->Observe(step.rows);
  documents_->Observe(step.documents);
}

void StepMetrics::OnUnhealthy(const absl::Status&) {}

Metrics::Metrics()
    : registry_(std::make_shared<prometheus::Registry>()),
      calls_(BuildCounter()
                 .Name("elserve_requests_total")
                 .Help("Requests that ended, by rpc and outcome (a gRPC status code).")
                 .Register(*registry_)),
      in_flight_(BuildGauge()
                     .Name("elserve_requests_in_flight")
                     .Help("Requests that arrived and have no answer yet, queued ones included.")
                     .Register(*registry_)),
      call_seconds_(BuildHistogram()
                        .Name("elserve_request_seconds")
                        .Help("From a request's arrival to its answer; answered requests alone.")
                        .Register(*registry_)),
      first_token_seconds_(BuildHistogram()
                               .Name("elserve_time_to_first_token_seconds")
                               .Help("Streams: from a request's arrival to the first piece of its answer.")
                               .Register(*registry_)),
      queue_seconds_(
          BuildHistogram()
              .Name("elserve_queue_seconds")
              .Help("From a request's arrival to its admission, or its end in the queue; or to its answer, if another "
                    "equal request's or a kept one.")
              .Register(*registry_)) {}

Metrics::~Metrics() = default;

StepMetrics* Metrics::AddModel(const std::string& model) {
  std::unique_ptr<StepMetrics>& steps = steps_[model];
  if (steps == nullptr) steps = std::make_unique<StepMetrics>(registry_.get(), model);
  return steps.get();
}

void Metrics::OnCallStarted(Rpc rpc) { in_flight_.Add({{"rpc", std::string(RpcName(rpc))}}).Increment(); }

void Metrics::OnCallEnded(const CallRecord& record) {
  const std::string rpc(RpcName(record.rpc));
  calls_.Add({{"model", record.model}, {"rpc", rpc}, {"outcome", Outcome(record.outcome)}}).Increment();
  if (record.longest_queue_seconds) {
    queue_seconds_.Add({{"model", record.model}}, Seconds()).Observe(*record.longest_queue_seconds);
  }
  if (record.first_token_seconds) {
    first_token_seconds_.Add({{"model", record.model}, {"rpc", rpc}}, Seconds()).Observe(*record.first_token_seconds);
  }
  if (record.outcome == absl::StatusCode::kOk) {
    call_seconds_.Add({{"model", record.model}, {"rpc", rpc}}, Seconds()).Observe(record.seconds);
  }
  // Last: whoever sees nothing in flight finds everything counted.
  in_flight_.Add({{"rpc", rpc}}).Decrement();
}

std::string Metrics::Text(const std::vector<RunningModel>& models) const {
  // First the calls, then the loops: a call that is counted here has left the loop.
  std::vector<prometheus::MetricFamily> families = registry_->Collect();
  for (prometheus::MetricFamily& family : CollectSnapshots(models)) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace elserve
