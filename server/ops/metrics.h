// What an operator sees: counters, gauges and histograms in Prometheus' text format.
#ifndef ELSERVE_SERVER_OPS_METRICS_H_
#define ELSERVE_SERVER_OPS_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/requests/call_observer.h"
#include "server/requests/running_model.h"
#include "server/scheduling/engine_loop.h"

namespace elserve {

// The steps of one model's loop as histograms.
class StepMetrics : public LoopObserver {
 public:
  StepMetrics(prometheus::Registry* registry, const std::string& model);

  void OnStep(const StepObservation& step) override;
  void OnUnhealthy(const absl::Status& error) override;

 private:
  prometheus::Histogram* seconds_;
  prometheus::Histogram* encode_;
  prometheus::Histogram* decode_;
  prometheus::Histogram* select_;
  prometheus::Histogram* search_;
  prometheus::Histogram* rows_;
  prometheus::Histogram* documents_;
};

// All metrics of the process. Names, labels and units stand in metrics.cc, where each is made
// Thread-safe but for AddModel, which belongs to the start.
class Metrics : public CallObserver {
 public:
  Metrics();
  ~Metrics() override;

  // The observer for the loop of a model that is about to be loaded; lives as long as this.
  StepMetrics* AddModel(const std::string& model);

  void OnCallStarted(Rpc rpc) override;
  void OnCallEnded(const CallRecord& record) override;

  // The body of /metrics: what was counted here, and the state of these models.
  std::string Text(const std::vector<RunningModel>& models) const;

 private:
  const std::shared_ptr<prometheus::Registry> registry_;
  prometheus::Family<prometheus::Counter>& calls_;
  prometheus::Family<prometheus::Gauge>& in_flight_;
  prometheus::Family<prometheus::Histogram>& call_seconds_;
  prometheus::Family<prometheus::Histogram>& first_token_seconds_;
  prometheus::Family<prometheus::Histogram>& queue_seconds_;
  std::map<std::string, std::unique_ptr<StepMetrics>> steps_;  // by model
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_OPS_METRICS_H_
