#include "server/rpc/health_service.h"

#include <utility>
#include <vector>

#include "server/rpc/wire.h"

namespace elserve {

using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// One Watch. A status that comes while another is being written replaces those that wait.
class HealthService::Watcher : public grpc::ServerWriteReactor<HealthCheckResponse> {
 public:
  Watcher(HealthService* service, std::string name) : service_(service), name_(std::move(name)) {}

  const std::string& name() const { return name_; }

  void Update(Status status) {
    {
      const std::lock_guard lock(mutex_);
      wanted_ = status;
    }
    Advance();
  }
  void End() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    Advance();
  }

 private:
  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      ending_ = ending_ || !ok;
    }
    Advance();
  }
  void OnCancel() override { End(); }
  void OnDone() override { service_->Remove(this); }

  // gRPC is called without the lock: it may call back at once.
  void Advance() {
    bool finish = false;
    {
      const std::lock_guard lock(mutex_);
      if (writing_ || finished_) return;
      const bool news = sent_ != wanted_;
      if (!news && !ending_) return;
      finish = ending_;
      finished_ = finish;
      writing_ = !finish;
      sent_ = wanted_;
      response_.set_status(wanted_);
    }
    if (finish) return Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server is shutting down"));
    StartWrite(&response_);
  }

  HealthService* const service_;
  const std::string name_;

  std::mutex mutex_;
  // Guarded by mutex_.
  Status wanted_ = HealthCheckResponse::UNKNOWN;
  Status sent_ = HealthCheckResponse::UNKNOWN;
  bool writing_ = false, ending_ = false, finished_ = false;

  HealthCheckResponse response_;  // of the write that runs
};

HealthService::~HealthService() = default;

HealthService::Status HealthService::StatusOf(const std::string& service) const {
  bool known = service.empty();
  bool healthy = !intake_->draining();
  for (const auto& model : intake_->models().models()) {
    if (!service.empty() && model.served->name() != service) continue;
    known = true;
    healthy = healthy && model.loop->healthy();
  }
  if (!known) return HealthCheckResponse::SERVICE_UNKNOWN;
  return healthy ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

std::string HealthService::UnhealthyReason() const {
  if (intake_->draining()) return "draining";
  for (const auto& model : intake_->models().models()) {
    if (!model.loop->healthy()) return "the device of model " + model.served->name() + " failed";
  }
  return "";
}

grpc::ServerUnaryReactor* HealthService::Check(grpc::CallbackServerContext* context, const HealthCheckRequest* request,
                                               HealthCheckResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Status status = StatusOf(request->service());
  if (status == HealthCheckResponse::SERVICE_UNKNOWN) {
    reactor->Finish(ToGrpc(intake_->models().Find(request->service()).status()));
    return reactor;
  }
  response->set_status(status);
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<HealthCheckResponse>* HealthService::Watch(grpc::CallbackServerContext*,
                                                                    const HealthCheckRequest* request) {
  auto watcher = std::make_shared<Watcher>(this, request->service());
  bool ended;
  {
    const std::lock_guard lock(mutex_);
    watchers_.insert(watcher);
    ended = ended_;
  }
  // After it was inserted: a change from here on reaches it by Refresh.
  watcher->Update(StatusOf(watcher->name()));
  if (ended) watcher->End();
  return watcher.get();
}

void HealthService::Refresh() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    const std::lock_guard lock(mutex_);
    watchers.assign(watchers_.begin(), watchers_.end());
  }
  for (const std::shared_ptr<Watcher>& watcher : watchers) watcher->Update(StatusOf(watcher->name()));
}

void HealthService::EndWatches() {
  std::vector<std::shared_ptr<Watcher>> watchers;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    watchers.assign(watchers_.begin(), watchers_.end());
  }
  for (const std::shared_ptr<Watcher>& watcher : watchers) watcher->End();
}

void HealthService::Remove(Watcher* watcher) {
  std::shared_ptr<Watcher> last;  // ends after the lock
  const std::lock_guard lock(mutex_);
  for (auto it = watchers_.begin(); it != watchers_.end(); ++it) {
    if (it->get() != watcher) continue;
    last = *it;
    watchers_.erase(it);
    return;
  }
}

}  // namespace elserve
