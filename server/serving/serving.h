// All of a running server that is behind its ports: the models, and what their calls use.
#ifndef ELSERVE_SERVER_SERVING_SERVING_H_
#define ELSERVE_SERVER_SERVING_SERVING_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "server/config/config.h"
#include "server/ops/metrics.h"
#include "server/requests/executor.h"
#include "server/requests/intake.h"
#include "server/requests/model_registry.h"
#include "server/serving/model_watch.h"

namespace elserve {

// What makes an engine: Engine::Load.
using EngineLoader = std::function<absl::StatusOr<std::unique_ptr<Engine>>(const EngineOptions&)>;

class Serving {
 public:
  // Loads the models one after the other.
  static absl::StatusOr<std::unique_ptr<Serving>> Load(const ServerConfig& config, const EngineLoader& load);
  // As End, but nothing that runs gets more time; returns when all calls were told. Nobody may start one any more.
  ~Serving();

  Intake& intake() { return *intake_; }
  const ModelRegistry& models() const { return *models_; }
  std::string MetricsText() const { return metrics_.Text(models_->models()); }
  // Who hears of a device that fails from now on, on the loop's thread. Must be there until End has returned.
  void SetFailureListener(const std::function<void()>& listener);

  // No new requests; those that were accepted have until the deadline, then they end with UNAVAILABLE. Returns when
  // all loops have ended.
  void End(TimePoint deadline);

 private:
  explicit Serving(const ServerConfig& config);
  absl::StatusOr<RunningModel> LoadModel(const ServedModelConfig& config, const EngineLoader& load);

  // In the order in which each needs the ones before; torn down in the reverse: first the models end their loops, and
  // with them all calls, while the watches, the executor, the metrics and the pool are still there.
  ThreadPool pool_;
  Metrics metrics_;
  Executor executor_;
  std::vector<std::unique_ptr<ModelWatch>> watches_;
  std::unique_ptr<ModelRegistry> models_;
  std::unique_ptr<Intake> intake_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SERVING_SERVING_H_
