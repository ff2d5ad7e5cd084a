// --focus: each place of a text that has it becomes a span.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/commands/client/request_options.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;

TEST(FocusTest, EveryPlaceIsASpan) {
  RequestOptions options;
  options.focus = {"aa", "b"};
  options.focus_strength = 0.5;
  v1::SummarizeRequest request;
  request.set_document("aaa b aa");
  EXPECT_EQ(FillFocus(options, &request), std::nullopt);
  ASSERT_EQ(request.salient_spans_size(), 3);
  EXPECT_EQ(request.salient_spans(0).begin(), 0);
  EXPECT_EQ(request.salient_spans(0).end(), 2);
  EXPECT_EQ(request.salient_spans(1).begin(), 6);
  EXPECT_EQ(request.salient_spans(1).end(), 8);
  EXPECT_EQ(request.salient_spans(2).begin(), 4);
  EXPECT_EQ(request.salience_strength(), 0.5);
}

TEST(FocusTest, WhatTheTextDoesNotHaveIsAnError) {
  RequestOptions options;
  options.focus = {"text", "Text"};
  v1::SummarizeRequest request;
  request.set_document("a text");
  EXPECT_THAT(FillFocus(options, &request).value_or(""),
              HasSubstr("--focus is \"Text\", which the text does not have"));
  options.focus = {""};
  EXPECT_THAT(FillFocus(options, &request).value_or(""), HasSubstr("--focus is empty"));
}

TEST(FocusTest, WithoutItNothingIsSet) {
  v1::SummarizeRequest request;
  request.set_document("a text");
  EXPECT_EQ(FillFocus(RequestOptions(), &request), std::nullopt);
  EXPECT_EQ(request.salient_spans_size(), 0);
  EXPECT_FALSE(request.has_salience_strength());
}

}  // namespace
}  // namespace elserve
