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
