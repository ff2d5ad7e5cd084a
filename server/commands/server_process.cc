#include "server/commands/server_process.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace elserve {
namespace {

// What the last answers get to leave the process once all jobs are done.
constexpr std::chrono::seconds kFlush{2};

}  // namespace

ServerProcess::~ServerProcess() { End(std::chrono::steady_clock::now()); }

absl::StatusOr<std::unique_ptr<ServerProcess>> ServerProcess::Start(const ServerConfig& config,
                                                                    const EngineLoader& load) {
  absl::StatusOr<std::unique_ptr<Serving>> serving = Serving::Load(config, load);
  if (!serving.ok()) return serving.status();
  std::unique_ptr<ServerProcess> process(new ServerProcess(config, *std::move(serving)));
  if (const absl::Status status = process->OpenPorts(); !status.ok()) return status;
  return process;
}

absl::Status ServerProcess::OpenPorts() {
  absl::StatusOr<std::unique_ptr<RpcServer>> rpc =
      RpcServer::Start({.listen = config_.listen, .max_message_bytes = config_.max_message_bytes}, &serving_->intake());
  if (!rpc.ok()) return rpc.status();
  rpc_ = *std::move(rpc);
  serving_->SetFailureListener([this] { rpc_->health().Refresh(); });
  if (config_.ops_listen.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<HttpPort>> http =
      HttpPort::Start({.listen = config_.ops_listen,
                       .metrics = [this] { return serving_->MetricsText(); },
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
  serving_->intake().StartDraining();
  rpc_->health().Refresh();
  serving_->End(deadline);
  const auto left = std::max<std::chrono::nanoseconds>(deadline - std::chrono::steady_clock::now(), kFlush);
  rpc_->Shutdown(std::chrono::system_clock::now() +
                 std::chrono::duration_cast<std::chrono::system_clock::duration>(left));
}

}  // namespace elserve
