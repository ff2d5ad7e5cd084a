// All rooms of a running server, wired.
#ifndef ELSERVE_SERVER_COMMANDS_SERVER_PROCESS_H_
#define ELSERVE_SERVER_COMMANDS_SERVER_PROCESS_H_

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "server/config/config.h"
#include "server/ops/http_port.h"
#include "server/ops/metrics.h"
#include "server/requests/executor.h"
#include "server/requests/intake.h"
#include "server/requests/model_registry.h"
#include "server/rpc/server.h"

namespace elserve {

// Tells metrics of steps, and everybody of a device that failed.
class ModelWatch : public LoopObserver {
 public:
  ModelWatch(std::string model, StepMetrics* metrics) : model_(std::move(model)), metrics_(metrics) {}

  // Whose watchers hear of a failure from now on.
  void SetHealth(HealthService* health);

  void OnStep(const StepObservation& step) override { metrics_->OnStep(step); }
  void OnUnhealthy(const absl::Status& error) override;

 private:
  const std::string model_;
  StepMetrics* const metrics_;
  std::mutex mutex_;
  HealthService* health_ = nullptr;  // guarded by mutex_; null before the port is open
};

// What makes an engine: Engine::Load.
using EngineLoader = std::function<absl::StatusOr<std::unique_ptr<Engine>>(const EngineOptions&)>;

// Loads the models one after the other, then opens the ports.
class ServerProcess {
 public:
  static absl::StatusOr<std::unique_ptr<ServerProcess>> Start(const ServerConfig& config, const EngineLoader& load);
  ~ServerProcess();  // as Drain, but nothing that runs gets more time

  int port() const { return rpc_->port(); }
  int ops_port() const { return http_ == nullptr ? 0 : http_->port(); }  // 0: off

  // No new requests; those that were accepted have `drain_seconds`, then they end with UNAVAILABLE. Returns when all
  // have ended.
  void Drain();

 private:
  explicit ServerProcess(const ServerConfig& config);
  absl::Status LoadModels(const EngineLoader& load);
  absl::StatusOr<RunningModel> LoadModel(const ServedModelConfig& config, const EngineLoader& load);
  absl::Status OpenPorts();
  // Ends every loop, and with them all calls, then the port: nothing comes to the rooms below any more.
  void End(TimePoint deadline);

  const ServerConfig config_;
  // In the order in which each needs the ones before; torn down in the reverse, after End. Calls use the executor and
  // the metrics, loops use their watches and the pool.
  ThreadPool pool_;
  Metrics metrics_;
  Executor executor_;
  std::vector<std::unique_ptr<ModelWatch>> watches_;
  std::unique_ptr<ModelRegistry> models_;
  std::unique_ptr<Intake> intake_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<HttpPort> http_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_SERVER_PROCESS_H_
