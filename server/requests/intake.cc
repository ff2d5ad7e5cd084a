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

absl::StatusOr<std::shared_ptr<Call>> Intake::Accept(const v1::SummarizeRequest& request, const CallOrigin& origin,
                                                     std::shared_ptr<CallListener> listener) {
  return AcceptAny(request, origin, std::move(listener));
}

absl::StatusOr<std::shared_ptr<Call>> Intake::Accept(const v1::GenerateRequest& request, const CallOrigin& origin,
                                                     std::shared_ptr<CallListener> listener) {
  return AcceptAny(request, origin, std::move(listener));
}

absl::StatusOr<std::shared_ptr<Call>> Intake::Accept(const v1::GenerateQuestionsRequest& request,
                                                     const CallOrigin& origin, std::shared_ptr<CallListener> listener) {
  return AcceptAny(request, origin, std::move(listener));
}

absl::StatusOr<std::shared_ptr<Call>> Intake::Accept(const v1::ScoreRequest& request, const CallOrigin& origin,
                                                     std::shared_ptr<CallListener> listener) {
  return AcceptAny(request, origin, std::move(listener));
}

template <typename Request>
absl::StatusOr<std::shared_ptr<Call>> Intake::AcceptAny(const Request& request, const CallOrigin& origin,
                                                        std::shared_ptr<CallListener> listener) {
  observer_->OnCallStarted(origin.rpc);
  absl::StatusOr<PreparedCall> prepared =
      draining() ? absl::StatusOr<PreparedCall>(Draining()) : Prepare(*models_, request, IsStream(origin.rpc));
  if (!prepared.ok()) {
    const auto model = models_->Find(request.model());
    ReportRefused(prepared.status(), origin, request.request_id(), model.ok() ? (*model)->name() : "");
    return prepared.status();
  }
  CallSize size{.jobs = prepared->jobs.size()};
  for (const PreparedCall::Job& job : prepared->jobs) size.source_tokens += prepared->SourceTokens(job.source.size());
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
