#include "server/rpc/generation_service.h"

#include <chrono>

#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "server/requests/tokenize.h"
#include "server/rpc/stream_call.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/wire.h"

namespace elserve {
namespace {

using grpc::ByteBuffer;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;
using ByteWriteReactor = grpc::ServerWriteReactor<ByteBuffer>;
using v1::GenerationService;

// Every method gets the bytes and parses them itself (ParseMessage says why).
template <typename Base>
using Unary = GenerationService::WithRawCallbackMethod_Summarize<
    GenerationService::WithRawCallbackMethod_Generate<GenerationService::WithRawCallbackMethod_GenerateQuestions<
        GenerationService::WithRawCallbackMethod_ListModels<GenerationService::WithRawCallbackMethod_GetModel<
            GenerationService::WithRawCallbackMethod_Tokenize<GenerationService::WithRawCallbackMethod_Detokenize<
                GenerationService::WithRawCallbackMethod_Score<Base>>>>>>>>;
template <typename Base>
using Streams =
    GenerationService::WithRawCallbackMethod_StreamSummarize<GenerationService::WithRawCallbackMethod_StreamGenerate<
        GenerationService::WithRawCallbackMethod_StreamGenerateQuestions<Base>>>;

CallOrigin Origin(const CallbackServerContext& context, Rpc rpc) {
  CallOrigin origin{.rpc = rpc, .arrived = std::chrono::steady_clock::now(), .deadline = std::nullopt};
  const std::chrono::system_clock::time_point deadline = context.deadline();
  // No deadline is gRPC's infinite future. What is beyond a year is none either, and cannot overflow the arithmetic.
  const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline - std::chrono::system_clock::now());
  if (deadline != std::chrono::system_clock::time_point::max() && left < std::chrono::hours(24 * 365)) {
    origin.deadline = origin.arrived + left;
  }
  return origin;
}

// Answers at once.
template <typename Response>
ServerUnaryReactor* Reply(CallbackServerContext* context, const absl::StatusOr<Response>& answer, ByteBuffer* bytes) {
  ServerUnaryReactor* reactor = context->DefaultReactor();
  if (answer.ok()) *bytes = SerializeMessage(*answer);
  reactor->Finish(ToGrpc(answer.status()));
  return reactor;
}

class Service final : public Unary<Streams<GenerationService::Service>> {
 public:
  explicit Service(Intake* intake) : intake_(intake) {}

  ServerUnaryReactor* Summarize(CallbackServerContext* context, const ByteBuffer* request,
                                ByteBuffer* response) override {
    return UnaryCall<v1::SummarizeRequest, v1::GenerateResponse>::Start(*request, response, intake_,
                                                                        Origin(*context, Rpc::kSummarize));
  }
  ServerUnaryReactor* Generate(CallbackServerContext* context, const ByteBuffer* request,
                               ByteBuffer* response) override {
    return UnaryCall<v1::GenerateRequest, v1::GenerateResponse>::Start(*request, response, intake_,
                                                                       Origin(*context, Rpc::kGenerate));
  }
  ServerUnaryReactor* GenerateQuestions(CallbackServerContext* context, const ByteBuffer* request,
                                        ByteBuffer* response) override {
    return UnaryCall<v1::GenerateQuestionsRequest, v1::GenerateQuestionsResponse>::Start(
        *request, response, intake_, Origin(*context, Rpc::kGenerateQuestions));
  }

  ServerUnaryReactor* Score(CallbackServerContext* context, const ByteBuffer* request, ByteBuffer* response) override {
    return UnaryCall<v1::ScoreRequest, v1::ScoreResponse>::Start(*request, response, intake_,
                                                                 Origin(*context, Rpc::kScore));
  }

  ByteWriteReactor* StreamSummarize(CallbackServerContext* context, const ByteBuffer* request) override {
    return StreamCall<v1::SummarizeRequest, v1::GenerateResponse, v1::GenerateChunk>::Start(
        *request, intake_, Origin(*context, Rpc::kStreamSummarize));
  }
  ByteWriteReactor* StreamGenerate(CallbackServerContext* context, const ByteBuffer* request) override {
    return StreamCall<v1::GenerateRequest, v1::GenerateResponse, v1::GenerateChunk>::Start(
        *request, intake_, Origin(*context, Rpc::kStreamGenerate));
  }
  ByteWriteReactor* StreamGenerateQuestions(CallbackServerContext* context, const ByteBuffer* request) override {
    return StreamCall<v1::GenerateQuestionsRequest, v1::GenerateQuestionsResponse, v1::GenerateQuestionsChunk>::Start(
        *request, intake_, Origin(*context, Rpc::kStreamGenerateQuestions));
  }

  ServerUnaryReactor* Tokenize(CallbackServerContext* context, const ByteBuffer* bytes, ByteBuffer* response) override {
    return Reply(context, Parsed<v1::TokenizeRequest>(*bytes, &elserve::Tokenize), response);
  }
  ServerUnaryReactor* Detokenize(CallbackServerContext* context, const ByteBuffer* bytes,
                                 ByteBuffer* response) override {
    return Reply(context, Parsed<v1::DetokenizeRequest>(*bytes, &elserve::Detokenize), response);
  }

  ServerUnaryReactor* ListModels(CallbackServerContext* context, const ByteBuffer* bytes,
                                 ByteBuffer* response) override {
    return Reply(context, List(*bytes), response);
  }
  ServerUnaryReactor* GetModel(CallbackServerContext* context, const ByteBuffer* bytes, ByteBuffer* response) override {
    return Reply(context, Get(*bytes), response);
  }

 private:
  template <typename Request, typename Response>
  absl::StatusOr<Response> Parsed(const ByteBuffer& bytes,
                                  absl::StatusOr<Response> (*answer)(const ModelRegistry&, const Request&)) const {
    Request request;
    if (const absl::Status parsed = ParseMessage(bytes, &request); !parsed.ok()) return parsed;
    return answer(intake_->models(), request);
  }
  absl::StatusOr<v1::ListModelsResponse> List(const ByteBuffer& bytes) const {
    v1::ListModelsRequest request;
    if (const absl::Status parsed = ParseMessage(bytes, &request); !parsed.ok()) return parsed;
    v1::ListModelsResponse response;
    for (const auto& model : intake_->models().models()) *response.add_models() = model.served->Describe();
    return response;
  }
  absl::StatusOr<v1::Model> Get(const ByteBuffer& bytes) const {
    v1::GetModelRequest request;
    if (const absl::Status parsed = ParseMessage(bytes, &request); !parsed.ok()) return parsed;
    const absl::StatusOr<std::shared_ptr<const ServedModel>> model = intake_->models().Find(request.model());
    if (!model.ok()) return model.status();
    return (*model)->Describe();
  }

  Intake* const intake_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeGenerationService(Intake* intake) { return std::make_unique<Service>(intake); }

}  // namespace elserve
