// Messages and statuses as gRPC carries them.
#ifndef ELSERVE_SERVER_RPC_WIRE_H_
#define ELSERVE_SERVER_RPC_WIRE_H_

#include <google/protobuf/message.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace elserve {

// Fills `message` from the bytes that a client sent. INVALID_ARGUMENT for bytes that are no such message; where the
// reason is a string that is not UTF-8 it names the field and the offset. Likewise for fields, at any depth, that this
// version does not know: it names message and number. (Left to itself, gRPC's callback API answers
// such a request with UNIMPLEMENTED.)
absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message);

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message);

// The same code and message, the message cut to what fits into the headers of HTTP/2.
grpc::Status ToGrpc(const absl::Status& status);

}  // namespace elserve

#endif  // ELSERVE_SERVER_RPC_WIRE_H_
