// The gRPC port.
#ifndef ELSERVE_SERVER_RPC_SERVER_H_
#define ELSERVE_SERVER_RPC_SERVER_H_

#include <grpcpp/server.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/requests/intake.h"
#include "server/rpc/health_service.h"

namespace elserve {

struct RpcServerOptions {
  std::string listen;  // host:port; port 0: any free one
  int max_message_bytes = 16 << 20;
};

// The services of rpc/ and server reflection on one port.
class RpcServer {
 public:
  // UNAVAILABLE where the port cannot be had; names it. The intake must outlive the server.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(const RpcServerOptions& options, Intake* intake);
  ~RpcServer();  // Shutdown at once
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  int port() const { return port_; }
  HealthService& health() { return health_; }

  // Takes no more rpcs, waits for those that run and cancels what is left at the deadline.
  void Shutdown(std::chrono::system_clock::time_point deadline);

 private:
  explicit RpcServer(Intake* intake);

  HealthService health_;
  std::unique_ptr<grpc::Service> generation_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_SERVER_H_
