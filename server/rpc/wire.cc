#include "server/rpc/wire.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/unknown_field_set.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/proto_buffer_writer.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::UnknownField;
using google::protobuf::UnknownFieldSet;

// Messages nest this deep in elserve.v1 at most; more is not looked into.
constexpr int kMaxDepth = 8;

std::string AllBytes(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  std::string all;
  if (!bytes.Dump(&slices).ok()) return all;
  for (const grpc::Slice& slice : slices) all.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return all;
}

// The first string of the message that is not UTF-8, by name; OK if there is none.
absl::Status FindBadString(const Descriptor& type, const std::string& bytes, const std::string& prefix, int depth) {
  UnknownFieldSet fields;
  if (depth > kMaxDepth || !fields.ParseFromString(bytes)) return absl::OkStatus();
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& value = fields.field(i);
    const FieldDescriptor* field = type.FindFieldByNumber(value.number());
    if (field == nullptr || value.type() != UnknownField::TYPE_LENGTH_DELIMITED) continue;
    const std::string name = prefix + field->name();
    absl::Status status;
    if (field->type() == FieldDescriptor::TYPE_STRING) {
      status = CheckUtf8(value.length_delimited(), name);
    } else if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      status = FindBadString(*field->message_type(), value.length_delimited(), name + ".", depth + 1);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// The first field, at any depth, that this version does not know.
absl::Status CheckKnown(const Message& message) {
  const Reflection* reflection = message.GetReflection();
  const UnknownFieldSet& unknown = reflection->GetUnknownFields(message);
  const Descriptor& type = *message.GetDescriptor();
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(type.full_name(), " has field number ", unknown.field(0).number(),
                                                   ", which this version does not know; none is ignored"));
  }
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) continue;
    const int count = field->is_repeated()                   ? reflection->FieldSize(message, field)
                      : reflection->HasField(message, field) ? 1
                                                             : 0;
    for (int j = 0; j < count; ++j) {
      const absl::Status status = CheckKnown(field->is_repeated() ? reflection->GetRepeatedMessage(message, field, j)
                                                                  : reflection->GetMessage(message, field));
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseMessage(const grpc::ByteBuffer& bytes, google::protobuf::Message* message) {
  grpc::ByteBuffer copy = bytes;  // shares the bytes; the reader wants it mutable
  {
    grpc::ProtoBufferReader reader(&copy);
    if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) return CheckKnown(*message);
  }
  absl::Status bad_string = FindBadString(*message->GetDescriptor(), AllBytes(bytes), "", 0);
  if (!bad_string.ok()) return bad_string;
  return absl::InvalidArgumentError(
      absl::StrCat("the request's ", bytes.Length(), " bytes are no ", message->GetDescriptor()->full_name()));
}

grpc::ByteBuffer SerializeMessage(const google::protobuf::Message& message) {
  constexpr int kBlockBytes = 64 << 10;
  grpc::ByteBuffer bytes;
  const size_t size = message.ByteSizeLong();
  grpc::ProtoBufferWriter writer(&bytes, kBlockBytes, static_cast<int>(size));
  message.SerializeToZeroCopyStream(&writer);
  return bytes;
}

grpc::Status ToGrpc(const absl::Status& status) {
  constexpr size_t kMaxMessage = 2000;
  std::string message(status.message().data(), status.message().size());
  if (message.size() > kMaxMessage) {
    size_t end = kMaxMessage;
    while (end > 0 && !IsCharacterBoundary(message, end)) --end;
    message.resize(end);
    message += " ...";
  }
  // The two enums have the same values, those of google.rpc.Code.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), message);
}

}  // namespace elserve
