// The door through which rpc/ hands requests in.
#ifndef ELSERVE_SERVER_REQUESTS_INTAKE_H_
#define ELSERVE_SERVER_REQUESTS_INTAKE_H_

#include <atomic>
#include <memory>

#include "absl/status/statusor.h"
#include "server/requests/call.h"
#include "server/requests/call_observer.h"
#include "server/requests/executor.h"
#include "server/requests/generation_request.h"
#include "server/requests/model_registry.h"

namespace elserve {

// Takes requests until it drains. Thread-safe. Every request is reported to the observer and logged once when it ends,
// refused ones included.
class Intake {
 public:
  // All must outlive it, and the calls that it makes.
  Intake(const ModelRegistry* models, Executor* executor, CallObserver* observer)
      : models_(models), executor_(executor), observer_(observer) {}

  // The call, not yet started, or why there is none (UNAVAILABLE while draining, and the errors of Prepare). Tokenizes
  // on the caller's thread.
  absl::StatusOr<std::shared_ptr<Call>> Accept(const GenerationRequest& request,
                                               std::shared_ptr<CallListener> listener);
  // A request that could not even be read: reports it and returns its error.
  absl::Status Refuse(const absl::Status& error, const CallOrigin& origin);

  // From now on every request is refused.
  void StartDraining() { draining_.store(true); }
  bool draining() const { return draining_.load(); }

  const ModelRegistry& models() const { return *models_; }

 private:
  void ReportRefused(const absl::Status& error, const CallOrigin& origin, std::string_view request_id,
                     std::string_view model);

  const ModelRegistry* const models_;
  Executor* const executor_;
  CallObserver* const observer_;
  std::atomic<bool> draining_{false};
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_INTAKE_H_
