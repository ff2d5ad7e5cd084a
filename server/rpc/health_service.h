// grpc.health.v1.Health: the whole server ("") and each model by its name.
#ifndef ELSERVE_SERVER_RPC_HEALTH_SERVICE_H_
#define ELSERVE_SERVER_RPC_HEALTH_SERVICE_H_

#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "server/requests/intake.h"

namespace elserve {

// A model is SERVING while its loop is healthy and the server does not drain; the server, while all models are.
// Thread-safe.
class HealthService final : public grpc::health::v1::Health::CallbackService {
 public:
  // The intake must outlive the service.
  explicit HealthService(const Intake* intake) : intake_(intake) {}
  ~HealthService() override;

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const grpc::health::v1::HealthCheckRequest* request,
                                  grpc::health::v1::HealthCheckResponse* response) override;
  grpc::ServerWriteReactor<grpc::health::v1::HealthCheckResponse>* Watch(
      grpc::CallbackServerContext* context, const grpc::health::v1::HealthCheckRequest* request) override;

  // Something may have changed: tells those who watch.
  void Refresh();
  // Ends all watches with UNAVAILABLE, and new ones at once: a server waits for its open streams before it stops.
  void EndWatches();

  // Why the whole server is not SERVING; empty if it is.
  std::string UnhealthyReason() const;

 private:
  class Watcher;
  using Status = grpc::health::v1::HealthCheckResponse::ServingStatus;

  // SERVICE_UNKNOWN: there is no such model.
  Status StatusOf(const std::string& service) const;
  void Remove(Watcher* watcher);

  const Intake* const intake_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::unordered_set<std::shared_ptr<Watcher>> watchers_;
  bool ended_ = false;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_HEALTH_SERVICE_H_
