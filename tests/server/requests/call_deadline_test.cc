// When a call's time is over, in made-up time.
#include "server/requests/call_deadline.h"

#include <chrono>

#include "gtest/gtest.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr TimePoint kArrived{seconds(1000)};

CallOrigin Given(std::optional<std::chrono::nanoseconds> time) {
  CallOrigin origin{.rpc = Rpc::kGenerate, .arrived = kArrived, .deadline = std::nullopt};
  if (time) origin.deadline = kArrived + *time;
  return origin;
}

PreparedCall WithMaxTime(std::optional<double> max_time) {
  PreparedCall call;
  if (max_time) call.effective.set_max_time(*max_time);
  return call;
}

TEST(CallDeadlineTest, WithoutLimitsThereIsNone) {
  EXPECT_FALSE(DeadlineOfJobs(WithMaxTime(std::nullopt), Given(std::nullopt)).has_value());
}

TEST(CallDeadlineTest, TheClientsFails) {
  const auto deadline = DeadlineOfJobs(WithMaxTime(std::nullopt), Given(seconds(3)));
  ASSERT_TRUE(deadline.has_value());
  EXPECT_EQ(deadline->at, kArrived + seconds(3));
  EXPECT_EQ(deadline->end, EndKind::kDiscard);
  EXPECT_EQ(deadline->name, "the deadline");
}

TEST(CallDeadlineTest, MaxTimeCountsFromTheArrival) {
  const auto deadline = DeadlineOfJobs(WithMaxTime(0.25), Given(std::nullopt));
  ASSERT_TRUE(deadline.has_value());
  EXPECT_EQ(deadline->at, kArrived + milliseconds(250));
  EXPECT_EQ(deadline->end, EndKind::kFinish);
  EXPECT_EQ(deadline->name, "max_time, 0.25 s,");
}

TEST(CallDeadlineTest, WhatComesFirstActs) {
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(2), Given(seconds(3)))->name, "max_time, 2 s,");
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(3.5), Given(seconds(3)))->name, "the deadline");
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(58), Given(seconds(60)))->end, EndKind::kFinish);
}

TEST(CallDeadlineTest, AnAnswerIsTooLateFromTheDeadlineOn) {
  const CallOrigin origin = Given(seconds(60));
  EXPECT_FALSE(ClientDeadlinePassed(origin, kArrived + milliseconds(59'999), std::nullopt));
  EXPECT_TRUE(ClientDeadlinePassed(origin, kArrived + seconds(60), std::nullopt));
  EXPECT_FALSE(ClientDeadlinePassed(Given(std::nullopt), TimePoint::max(), std::nullopt));
}

// The client's clock may run out before the server's.
TEST(CallDeadlineTest, ACancellationNearTheDeadlineIsTheDeadline) {
  const CallOrigin origin = Given(seconds(60));
  const TimePoint late = kArrived + seconds(70);
  EXPECT_FALSE(ClientDeadlinePassed(origin, late, kArrived + seconds(30))) << "the client went away";
  EXPECT_FALSE(ClientDeadlinePassed(origin, late, kArrived + milliseconds(56'999)));
  EXPECT_TRUE(ClientDeadlinePassed(origin, late, kArrived + seconds(57)));
  EXPECT_TRUE(ClientDeadlinePassed(origin, late, kArrived + seconds(61)));
  EXPECT_FALSE(ClientDeadlinePassed(Given(std::nullopt), late, kArrived));
}

}  // namespace
}  // namespace elserve
