// A running server: what serves, and the ports to it.
#ifndef ELSERVE_SERVER_COMMANDS_SERVER_PROCESS_H_
#define ELSERVE_SERVER_COMMANDS_SERVER_PROCESS_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config/config.h"
#include "server/ops/http_port.h"
#include "server/rpc/server.h"
#include "server/serving/serving.h"

namespace elserve {

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
  ServerProcess(const ServerConfig& config, std::unique_ptr<Serving> serving)
      : config_(config), serving_(std::move(serving)) {}
  absl::Status OpenPorts();
  // Ends all calls, and then the ports.
  void End(TimePoint deadline);

  const ServerConfig config_;
  // In the order in which each needs the ones before; torn down in the reverse, after End.
  const std::unique_ptr<Serving> serving_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<HttpPort> http_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_SERVER_PROCESS_H_
