// What a model's loop tells the process.
#ifndef ELSERVE_SERVER_SERVING_MODEL_WATCH_H_
#define ELSERVE_SERVER_SERVING_MODEL_WATCH_H_

#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "server/ops/metrics.h"
#include "server/scheduling/engine_loop.h"

namespace elserve {

// Tells metrics of steps, and the log and a listener of a device that failed. Must outlive the loop.
class ModelWatch : public LoopObserver {
 public:
  ModelWatch(std::string model, StepMetrics* metrics) : model_(std::move(model)), metrics_(metrics) {}

  // Who hears of a failure from now on, on the loop's thread.
  void SetListener(std::function<void()> listener);

  void OnStep(const StepObservation& step) override { metrics_->OnStep(step); }
  void OnUnhealthy(const absl::Status& error) override;

 private:
  const std::string model_;
  StepMetrics* const metrics_;
  std::mutex mutex_;
  std::function<void()> listener_;  // guarded by mutex_; may be empty
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SERVING_MODEL_WATCH_H_
