#include "server/rpc/wire.h"

#include <string>

#include "gmock/gmock.h"
#include "google/protobuf/unknown_field_set.h"
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

void AddUnknown(google::protobuf::Message* message) {
  message->GetReflection()->MutableUnknownFields(message)->AddVarint(99, 1);
}

template <typename Request>
std::string Refusal(const Request& request) {
  Request read;
  const absl::Status status = ParseMessage(SerializeMessage(request), &read);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  return std::string(status.message());
}

TEST(WireTest, RefusesFieldsOfALaterVersionAtAnyDepth) {
  v1::SummarizeRequest summarize;
  AddUnknown(&summarize);
  EXPECT_THAT(Refusal(summarize), HasSubstr("elserve.v1.SummarizeRequest has field number 99"));
  summarize.Clear();
  AddUnknown(summarize.mutable_parameters());
  EXPECT_THAT(Refusal(summarize), HasSubstr("elserve.v1.DecodingParameters has field number 99"));
  summarize.Clear();
  summarize.mutable_parameters()->add_bad_words_ids();
  AddUnknown(summarize.mutable_parameters()->add_bad_words_ids());
  EXPECT_THAT(Refusal(summarize), HasSubstr("elserve.v1.TokenList has field number 99"));

  v1::GenerateQuestionsRequest questions;
  questions.add_answers()->mutable_span()->set_end(3);
  AddUnknown(questions.add_answers()->mutable_span());
  EXPECT_THAT(Refusal(questions), HasSubstr("elserve.v1.Span has field number 99"));
  v1::GenerateRequest generate;
  AddUnknown(generate.mutable_token_ids());
  EXPECT_THAT(Refusal(generate), HasSubstr("elserve.v1.TokenList has field number 99"));
  v1::ListModelsRequest list;
  AddUnknown(&list);
  EXPECT_THAT(Refusal(list), HasSubstr("elserve.v1.ListModelsRequest has field number 99"));
}

TEST(WireTest, TakesWhatItKnowsAtAnyDepth) {
  v1::GenerateQuestionsRequest request, read;
  request.mutable_parameters()->add_bad_words_ids()->add_ids(4);
  request.add_answers()->mutable_span()->set_end(3);
  EXPECT_TRUE(ParseMessage(SerializeMessage(request), &read).ok());
}

// `parameters` holds no string but those in lists.
TEST(WireTest, NamesStringsInsideMessages) {
  v1::SummarizeRequest request;
  request.mutable_parameters()->add_stop_strings(std::string("\xff"));
  EXPECT_THAT(Refusal(request), HasSubstr("parameters.stop_strings"));
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
  EXPECT_EQ(ToGrpc(absl::NotFoundError(std::string(2000, 'x'))).error_message(), std::string(2000, 'x'));
  EXPECT_EQ(ToGrpc(absl::NotFoundError(std::string(2001, 'x'))).error_message(), std::string(2000, 'x') + " ...");
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpc(absl::UnavailableError("")).error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(ToGrpc(absl::DeadlineExceededError("")).error_code(), grpc::DEADLINE_EXCEEDED);
}

}  // namespace
}  // namespace elserve
