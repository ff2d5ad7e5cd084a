// elserve.v1.GenerationService.
#ifndef ELSERVE_SERVER_RPC_GENERATION_SERVICE_H_
#define ELSERVE_SERVER_RPC_GENERATION_SERVICE_H_

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>

#include "server/requests/intake.h"

namespace grpc {
class Service;
}

namespace elserve {

// Translates between gRPC and Intake; knows no more. The intake must outlive the service.
std::unique_ptr<grpc::Service> MakeGenerationService(Intake* intake);

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_GENERATION_SERVICE_H_
