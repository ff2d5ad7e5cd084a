// A unary rpc on its way: the reactor that gRPC knows, and the listener that the call knows.
#ifndef ELSERVE_SERVER_RPC_UNARY_CALL_H_
#define ELSERVE_SERVER_RPC_UNARY_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "server/requests/intake.h"
#include "server/rpc/answers.h"
#include "server/rpc/requests.h"
#include "server/rpc/wire.h"

namespace elserve {

// Lives until gRPC is done with it (OnDone) and the call too, whichever is later.
template <typename Request, typename Response>
class UnaryCall : public grpc::ServerUnaryReactor, public CallListener {
 public:
  // Parses and starts; `response` is gRPC's and valid until Finish.
  static grpc::ServerUnaryReactor* Start(const grpc::ByteBuffer& bytes, grpc::ByteBuffer* response, Intake* intake,
                                         const CallOrigin& origin) {
    auto self = std::make_shared<UnaryCall>(response);
    self->self_ = self;
    self->Begin(bytes, intake, origin);
    return self.get();
  }

  explicit UnaryCall(grpc::ByteBuffer* response) : response_(response) {}

 private:
  void Begin(const grpc::ByteBuffer& bytes, Intake* intake, const CallOrigin& origin) {
    Request request;
    if (const absl::Status parsed = ParseMessage(bytes, &request); !parsed.ok()) {
      return Finish(ToGrpc(intake->Refuse(parsed, origin)));
    }
    absl::StatusOr<std::shared_ptr<Call>> call = intake->Accept(ToGenerationRequest(std::move(request), origin), self_);
    if (!call.ok()) return Finish(ToGrpc(call.status()));
    call_ = *call;
    (*call)->Start();
  }

  // CallListener: the executor's threads.
  void OnEvents() override {}
  void OnAnswer(absl::StatusOr<CallAnswer> answer) override {
    if (!answer.ok()) return Finish(ToGrpc(answer.status()));
    Response response;
    FillResponse(*std::move(answer), &response);
    *response_ = SerializeMessage(response);
    Finish(grpc::Status::OK);
  }

  // The reactor: gRPC's threads, never before Start has returned.
  void OnCancel() override {
    if (call_ != nullptr) call_->Cancel();
  }
  void OnDone() override { self_.reset(); }

  grpc::ByteBuffer* const response_;
  std::shared_ptr<Call> call_;  // null: refused; constant once Start has returned
  std::shared_ptr<UnaryCall> self_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_UNARY_CALL_H_
