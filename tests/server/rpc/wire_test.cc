#include "server/rpc/wire.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/elserve/v1/elserve.pb.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

TEST(WireTest, ReadsWhatItWrote) {
  v1::SummarizeRequest request;
  request.set_document(std::string(200'000, 'x'));
  request.mutable_parameters()->set_num_beams(3);
  v1::SummarizeRequest read;
  ASSERT_TRUE(ParseMessage(SerializeMessage(request), &read).ok());
  EXPECT_EQ(read.SerializeAsString(), request.SerializeAsString());
}

// Field 17 is `answers`, a message whose field 1 is `text`.
TEST(WireTest, NamesTheStringThatIsNoUtf8) {
  v1::GenerateQuestionsRequest request;
  const absl::Status status = ParseMessage(Bytes(std::string("\x8a\x01\x05\x0a\x03") + "ab\xff"), &request);
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("answers.text"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("2"));
}

TEST(WireTest, RefusesBytesThatAreNoMessage) {
  v1::SummarizeRequest request;
  for (const std::string& bytes : {std::string("\x0a\xff"), std::string("\xff\xff\xff"), std::string(100, '\x0b')}) {
    const absl::Status status = ParseMessage(Bytes(bytes), &request);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("elserve.v1.SummarizeRequest"));
  }
}

TEST(WireTest, KeepsCodesAndCutsLongMessages) {
  const grpc::Status status = ToGrpc(absl::NotFoundError(std::string(1999, 'x') + "é" + std::string(5000, 'y')));
  EXPECT_EQ(status.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(status.error_message(), std::string(1999, 'x') + " ...");
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpc(absl::UnavailableError("")).error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ToGrpc(absl::DeadlineExceededError("")).error_code(), grpc::DEADLINE_EXCEEDED);
}

}  // namespace
}  // namespace elserve
