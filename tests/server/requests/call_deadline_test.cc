// When a call's time is over, in made-up time.
#include "server/requests/call_deadline.h"

#include <chrono>
#include <string>

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

PreparedCall WithMaxTime(std::optional<double> max_time, bool best_so_far) {
  PreparedCall call;
  if (max_time) call.effective.set_max_time(*max_time);
  call.best_so_far = best_so_far;
  return call;
}

TEST(CallDeadlineTest, WithoutLimitsThereIsNone) {
  EXPECT_FALSE(DeadlineOfJobs(WithMaxTime(std::nullopt, false), Given(std::nullopt)).has_value());
  EXPECT_FALSE(DeadlineOfJobs(WithMaxTime(std::nullopt, true), Given(std::nullopt)).has_value());
}

TEST(CallDeadlineTest, TheClientsFails) {
  const auto deadline = DeadlineOfJobs(WithMaxTime(std::nullopt, false), Given(seconds(3)));
  ASSERT_TRUE(deadline.has_value());
  EXPECT_EQ(deadline->at, kArrived + seconds(3));
  EXPECT_EQ(deadline->end, EndKind::kDiscard);
  EXPECT_EQ(deadline->name, "the deadline");
}

TEST(CallDeadlineTest, MaxTimeCountsFromTheArrival) {
  for (const bool best_so_far : {false, true}) {
    const auto deadline = DeadlineOfJobs(WithMaxTime(0.25, best_so_far), Given(std::nullopt));
    ASSERT_TRUE(deadline.has_value());
    EXPECT_EQ(deadline->at, kArrived + milliseconds(250));
    EXPECT_EQ(deadline->end, EndKind::kFinish);
    EXPECT_EQ(deadline->name, "max_time, 0.25 s,");
  }
}

TEST(CallDeadlineTest, BestSoFarLeavesAMargin) {
  const struct {
    std::chrono::nanoseconds given, margin;
    const char* shown;
  } kCases[] = {
      {seconds(60), milliseconds(1300), "1.300"},
      {seconds(1), milliseconds(120), "0.120"},
      {milliseconds(200), milliseconds(100), "0.100"},
      {milliseconds(100), milliseconds(50), "0.050"},
      {milliseconds(30), milliseconds(15), "0.015"},  // a complete answer may still come
      {-seconds(1), seconds(0), "0.000"},             // it passed on the way
  };
  for (const auto& test : kCases) {
    const auto deadline = DeadlineOfJobs(WithMaxTime(std::nullopt, true), Given(test.given));
    ASSERT_TRUE(deadline.has_value());
    EXPECT_EQ(deadline->at, kArrived + test.given - test.margin) << test.shown;
    EXPECT_EQ(deadline->end, EndKind::kFinish);
    EXPECT_EQ(deadline->name, std::string("the deadline, less ") + test.shown + " s for the answer's way back,");
  }
}

TEST(CallDeadlineTest, WhatComesFirstActs) {
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(2, false), Given(seconds(3)))->name, "max_time, 2 s,");
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(3.5, false), Given(seconds(3)))->name, "the deadline");
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(56, true), Given(seconds(60)))->name, "max_time, 56 s,");
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(58, true), Given(seconds(60)))->end, EndKind::kFinish);
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(59, true), Given(seconds(60)))->at, kArrived + milliseconds(58'700));
  EXPECT_EQ(DeadlineOfJobs(WithMaxTime(58, false), Given(seconds(60)))->end, EndKind::kFinish);
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
  EXPECT_FALSE(ClientDeadlinePassed(origin, late, kArrived + milliseconds(58'699)));
  EXPECT_TRUE(ClientDeadlinePassed(origin, late, kArrived + milliseconds(58'700)));
  EXPECT_TRUE(ClientDeadlinePassed(origin, late, kArrived + seconds(61)));
  EXPECT_FALSE(ClientDeadlinePassed(Given(std::nullopt), late, kArrived));
}

}  // namespace
}  // namespace elserve
