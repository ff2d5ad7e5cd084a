#include "server/requests/intake.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "server/requests/log.h"
#include "server/requests/prepare.h"

namespace elserve {
namespace {

absl::Status Draining() { return absl::UnavailableError("the server is draining and takes no new requests"); }

}  // namespace

absl::StatusOr<std::shared_ptr<Call>> Intake::Accept(const GenerationRequest& request,
                                                     std::shared_ptr<CallListener> listener) {
  const CallOrigin& origin = request.origin;
  observer_->OnCallStarted(origin.rpc);
  absl::StatusOr<PreparedCall> prepared =
      draining() ? absl::StatusOr<PreparedCall>(Draining()) : Prepare(*models_, request);
  if (!prepared.ok()) {
    const auto model = models_->Find(request.model);
    ReportRefused(prepared.status(), origin, request.request_id, model.ok() ? (*model)->name() : "");
    return prepared.status();
  }
  CallSize size{.jobs = prepared->jobs.size()};
  for (const PlannedJob& job : prepared->jobs) size.source_tokens += job.source_tokens;
  LogCallStart(prepared->request_id, origin.rpc, prepared->model->name(), size);
  return std::make_shared<Call>(*std::move(prepared), origin, std::move(listener), executor_, observer_);
}

absl::Status Intake::Refuse(const absl::Status& error, const CallOrigin& origin) {
  observer_->OnCallStarted(origin.rpc);
  ReportRefused(error, origin, "", "");
  return error;
}

void Intake::ReportRefused(const absl::Status& error, const CallOrigin& origin, std::string_view request_id,
                           std::string_view model) {
  CallRecord record;
  record.model = model;
  record.rpc = origin.rpc;
  record.outcome = error.code();
  record.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - origin.arrived).count();
  LogCallEnd(request_id, record, error, {});
  observer_->OnCallEnded(record);
}

}  // namespace elserve
