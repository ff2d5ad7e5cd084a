#include "server/commands/server_process.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

// Turning tokens into text is little work beside a decoding step.
constexpr int kExecutorThreads = 2;
// What the last answers get to leave the process once all jobs are done.
constexpr std::chrono::seconds kFlush{2};

void LogModel(const v1::Model& model) {
  spdlog::info(
      "model={} loaded family={} parameters={} device={} device_name=\"{}\" device_reason=\"{}\" precision={} "
      "attention={} reason=\"{}\" "
      "encoder_memory_tokens={} decoder_memory_tokens={} max_rows={}",
      model.name(), model.family(), model.parameter_count(), model.device(), model.device_name(), model.device_reason(),
      model.precision(), model.attention(), model.attention_reason(), model.limits().encoder_memory_tokens(),
      model.limits().decoder_memory_tokens(), model.limits().max_rows());
}

}  // namespace

void ModelWatch::SetHealth(HealthService* health) {
  const std::lock_guard lock(mutex_);
  health_ = health;
}

void ModelWatch::OnUnhealthy(const absl::Status& error) {
  spdlog::error("model={} its device failed, it serves no more: {}", model_, error.ToString());
  metrics_->OnUnhealthy(error);
  const std::lock_guard lock(mutex_);
  if (health_ != nullptr) health_->Refresh();
}

ServerProcess::ServerProcess(const ServerConfig& config)
    : config_(config),
      pool_(config.threads > 0 ? config.threads : ThreadPool::AvailableProcessors()),
      executor_(kExecutorThreads) {}

ServerProcess::~ServerProcess() { End(std::chrono::steady_clock::now()); }

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(const ServerConfig& config,
                                                                    const EngineLoader& load) {
  std::unique_ptr<ServerProcess> process(new ServerProcess(config));
  if (const absl::Status status = process->LoadModels(load); !status.ok()) return status;
  if (const absl::Status status = process->OpenPorts(); !status.ok()) return status;
  return process;
}

absl::Status ServerProcess::LoadModels(const EngineLoader& load) {
  spdlog::info("threads={} computing reason=\"{}\"", pool_.threads(),
               config_.threads > 0 ? "as configured" : "auto: what affinity and the control group's quota allow");
  std::vector<RunningModel> models;
  for (const ServedModelConfig& config : config_.models) {
    absl::StatusOr<RunningModel> model = LoadModel(config, load);
    if (!model.ok()) return model.status();
    LogModel(model->served->Describe());
    models.push_back(*std::move(model));
  }
  models_ = std::make_unique<ModelRegistry>(std::move(models));
  intake_ = std::make_unique<Intake>(models_.get(), &executor_, &metrics_);
  return absl::OkStatus();
}

absl::StatusOr<RunningModel> ServerProcess::LoadModel(const ServedModelConfig& config, const EngineLoader& load) {
  spdlog::info("model={} loading path={}", config.name, config.path);
  absl::StatusOr<std::unique_ptr<Engine>> engine = load(ToEngineOptions(config, &pool_));
  if (!engine.ok()) {
    return absl::Status(engine.status().code(), absl::StrCat("model ", config.name, ": ", engine.status().message()));
  }
  watches_.push_back(std::make_unique<ModelWatch>(config.name, metrics_.AddModel(config.name)));
  return RunningModel::Create(config, *std::move(engine), watches_.back().get());
}

absl::Status ServerProcess::OpenPorts() {
  absl::StatusOr<std::unique_ptr<RpcServer>> rpc =
      RpcServer::Start({.listen = config_.listen, .max_message_bytes = config_.max_message_bytes}, intake_.get());
  if (!rpc.ok()) return rpc.status();
  rpc_ = *std::move(rpc);
  for (const std::unique_ptr<ModelWatch>& watch : watches_) watch->SetHealth(&rpc_->health());
  if (config_.ops_listen.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<HttpPort>> http =
      HttpPort::Start({.listen = config_.ops_listen,
                       .metrics = [this] { return metrics_.Text(models_->models()); },
                       .unhealthy_reason = [this] { return rpc_->health().UnhealthyReason(); }});
  if (!http.ok()) return http.status();
  http_ = *std::move(http);
  return absl::OkStatus();
}

void ServerProcess::Drain() {
  End(std::chrono::steady_clock::now() +
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(config_.drain_seconds)));
}

void ServerProcess::End(TimePoint deadline) {
  if (rpc_ == nullptr) return;  // nobody could call
  intake_->StartDraining();
  rpc_->health().Refresh();
  for (const RunningModel& model : models_->models()) model.loop->Drain(deadline);
  const auto left = std::max<std::chrono::nanoseconds>(deadline - std::chrono::steady_clock::now(), kFlush);
  rpc_->Shutdown(std::chrono::system_clock::now() +
                 std::chrono::duration_cast<std::chrono::system_clock::duration>(left));
}

}  // namespace elserve
