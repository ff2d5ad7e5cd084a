// A streaming rpc on its way: deltas while they come, then the whole answer.
#ifndef ELSERVE_SERVER_RPC_STREAM_CALL_H_
#define ELSERVE_SERVER_RPC_STREAM_CALL_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "server/requests/intake.h"
#include "server/rpc/answers.h"
#include "server/rpc/requests.h"
#include "server/rpc/wire.h"

namespace elserve {

// At most one message is on its way to the client; what comes meanwhile is joined by the call, so a client that reads
// slowly gets fewer, longer deltas. Lives until gRPC is done with it (OnDone) and the call too, whichever is later.
template <typename Request, typename Response, typename Chunk>
class StreamCall : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public CallListener {
 public:
  static grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const grpc::ByteBuffer& bytes, Intake* intake,
                                                           const CallOrigin& origin) {
    auto self = std::make_shared<StreamCall>();
    self->self_ = self;
    self->Begin(bytes, intake, origin);
    return self.get();
  }

 private:
  void Begin(const grpc::ByteBuffer& bytes, Intake* intake, const CallOrigin& origin) {
    Request request;
    if (const absl::Status parsed = ParseMessage(bytes, &request); !parsed.ok()) {
      return this->Finish(ToGrpc(intake->Refuse(parsed, origin)));
    }
    absl::StatusOr<std::shared_ptr<Call>> call = intake->Accept(ToGenerationRequest(std::move(request), origin), self_);
    if (!call.ok()) return this->Finish(ToGrpc(call.status()));
    call_ = *call;
    (*call)->Start();
  }

  // CallListener: the executor's threads.
  void OnEvents() override { Advance(); }
  void OnAnswer(absl::StatusOr<CallAnswer> answer) override {
    {
      const std::lock_guard lock(mutex_);
      answer_ = std::move(answer);
    }
    Advance();
  }

  // The reactor: gRPC's threads, never before Start has returned.
  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      broken_ = broken_ || !ok;
    }
    Advance();
  }
  void OnCancel() override {
    if (call_ != nullptr) call_->Cancel();
  }
  void OnDone() override { self_.reset(); }

  enum class Next { kNothing, kWrite, kWriteLast, kFinish };

  // Sends what there is to send, if nothing is on its way. gRPC is called without the lock: it may call back at once.
  void Advance() {
    switch (ChooseNext()) {
      case Next::kNothing:
        return;
      case Next::kWrite:
        return this->StartWrite(&message_);
      case Next::kWriteLast:
        return this->StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
      case Next::kFinish:
        return this->Finish(error_);
    }
  }

  Next ChooseNext() {
    const std::lock_guard lock(mutex_);
    if (writing_ || finished_) return Next::kNothing;
    Chunk chunk;
    if (!broken_) {
      if (std::optional<CallEvent> event = call_->TakeEvent()) {
        FillChunk(*std::move(event), &chunk);
        message_ = SerializeMessage(chunk);
        writing_ = true;
        return Next::kWrite;
      }
    }
    if (!answer_) return Next::kNothing;
    finished_ = true;
    if (broken_ || !answer_->ok()) {
      error_ = broken_ ? grpc::Status::CANCELLED : ToGrpc(answer_->status());
      return Next::kFinish;
    }
    FillResponse(**std::move(answer_), chunk.mutable_response());
    message_ = SerializeMessage(chunk);
    return Next::kWriteLast;
  }

  std::shared_ptr<Call> call_;  // null: refused; constant once the call was started
  std::shared_ptr<StreamCall> self_;

  std::mutex mutex_;
  // Guarded by mutex_.
  bool writing_ = false;   // a message is on its way
  bool broken_ = false;    // a write failed: the client is gone
  bool finished_ = false;  // the last operation was started
  std::optional<absl::StatusOr<CallAnswer>> answer_;

  // Of the one operation that runs.
  grpc::ByteBuffer message_;
  grpc::Status error_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_STREAM_CALL_H_
