// What clients of elserve.v1 rely on across messages.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "proto/elserve/v1/elserve.pb.h"

namespace elserve {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr int kFirstOwnNumber = 16;

std::vector<const Descriptor*> Requests() {
  return {v1::SummarizeRequest::descriptor(), v1::GenerateRequest::descriptor(),
          v1::GenerateQuestionsRequest::descriptor()};
}

TEST(ContractTest, RequestsShareTheirFirstFields) {
  const Descriptor* first = Requests().front();
  for (const char* name : {"model", "parameters", "truncation", "request_id", "token_logprobs", "source_language",
                           "target_language", "prefix_text", "prefix_token_ids", "top_logprobs"}) {
    ASSERT_NE(first->FindFieldByName(name), nullptr) << name;
    EXPECT_LT(first->FindFieldByName(name)->number(), kFirstOwnNumber) << name;
  }
  for (const Descriptor* request : Requests()) {
    for (int number = 1; number < kFirstOwnNumber; ++number) {
      const FieldDescriptor* field = request->FindFieldByNumber(number);
      const FieldDescriptor* same = first->FindFieldByNumber(number);
      ASSERT_EQ(field == nullptr, same == nullptr) << request->name() << " " << number;
      if (field == nullptr) continue;
      EXPECT_EQ(field->name(), same->name()) << request->name();
      EXPECT_EQ(field->type(), same->type()) << request->name() << "." << field->name();
      EXPECT_EQ(field->label(), same->label()) << request->name() << "." << field->name();
      EXPECT_EQ(field->has_optional_keyword(), same->has_optional_keyword()) << request->name() << "." << field->name();
    }
  }
}

TEST(ContractTest, AndTheirComments) {
  std::ifstream file(ELSERVE_SOURCE_DIR "/proto/elserve/v1/elserve.proto");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::string shared;
  for (const Descriptor* request : Requests()) {
    const std::string opening = "message " + request->name() + " {\n";
    const size_t begin = text.find(opening);
    ASSERT_NE(begin, std::string::npos) << request->name();
    // An empty line ends them.
    const size_t from = begin + opening.size();
    const std::string fields = text.substr(from, text.find("\n\n", from) - from);
    EXPECT_NE(fields.find("token_logprobs"), std::string::npos) << fields;
    if (shared.empty()) shared = fields;
    EXPECT_EQ(fields, shared) << request->name();
  }
}

TEST(ContractTest, AnAnswerHasOneShape) {
  const Descriptor* answer = v1::Answer::descriptor();
  EXPECT_EQ(v1::GenerateQuestionsRequest::descriptor()->FindFieldByName("answers")->message_type(), answer);
  EXPECT_EQ(v1::Question::descriptor()->FindFieldByName("answer")->message_type(), answer);
}

TEST(ContractTest, WhatWasRemovedStaysReserved) {
  EXPECT_TRUE(v1::GenerateChunk::descriptor()->IsReservedName("answer"));
  EXPECT_TRUE(v1::GenerateQuestionsChunk::descriptor()->IsReservedName("answer"));
  for (const char* name : {"answer_text", "answer_span"}) {
    EXPECT_TRUE(v1::Question::descriptor()->IsReservedName(name)) << name;
  }
  for (const int number : {1, 2}) EXPECT_TRUE(v1::Question::descriptor()->IsReservedNumber(number)) << number;
}

TEST(ContractTest, EveryFileNamesItsPackages) {
  for (const Descriptor* message : {v1::SummarizeRequest::descriptor(), v1::DecodingParameters::descriptor()}) {
    const google::protobuf::FileOptions& options = message->file()->options();
    EXPECT_EQ(options.go_package(), "elserve/v1;elservev1") << message->file()->name();
    EXPECT_EQ(options.java_package(), "elserve.v1") << message->file()->name();
    EXPECT_TRUE(options.java_multiple_files()) << message->file()->name();
  }
}

}  // namespace
}  // namespace elserve
