// Equal jobs whose time is over: each ends for itself, and what is cut short is nobody else's.
#include <chrono>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduling/scheduler_fixture.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

using SingleFlightDeadlineTest = SingleFlightTest;

TEST_F(SingleFlightDeadlineTest, ADeadlineInTheQueueEndsOneMember) {
  Add({.rows = 8, .tokens = 5});
  Step();
  const TestJob first = Add({.rows = 8, .question = 1, .deadline = now_ + milliseconds(15)}),
                second = Add({.rows = 8, .question = 1});
  Steps(3);
  ASSERT_TRUE(first.sink->is_done());
  EXPECT_EQ(first.sink->result.status, absl::DeadlineExceededError("the time passed after 0.020 s in the queue"));
  EXPECT_EQ(scheduler().queued(), 1u);
  RunToEnd();
  ExpectAnswer(second, {0, 1, 2}, AnsweredBy::kComputing);
}

TEST_F(SingleFlightDeadlineTest, ADeadlineThatFailsAMemberFailsItAlone) {
  const TestJob first = Add({.tokens = 6,
                             .question = 1,
                             .deadline = now_ + milliseconds(25),
                             .at_deadline = EndKind::kDiscard}),
                second = Add({.tokens = 6, .question = 1});
  Steps(3);
  EXPECT_FALSE(first.sink->is_done());
  Step();
  EXPECT_THAT(plan_.ends, IsEmpty());
  EXPECT_EQ(first.sink->result.status, absl::DeadlineExceededError("the time passed before the answer was complete"));
  RunToEnd();
  ExpectAnswer(second, {0, 1, 2, 3, 4, 5}, AnsweredBy::kComputing);
}

TEST_F(SingleFlightDeadlineTest, AMemberWhoseTimeIsOverGetsWhatThereIsAndTheOthersAllOfIt) {
  Use({.answer_cache_bytes = 1 << 20});
  const JobShape shape{.tokens = 6, .question = 1};
  const TestJob first = Add(shape), second = Add({.tokens = 6, .question = 1, .deadline = now_ + milliseconds(25)}),
                third = Add({.tokens = 6, .question = 1, .deadline = now_ + milliseconds(45)});
  Steps(3);
  EXPECT_FALSE(second.sink->is_done());
  Step();
  ASSERT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(plan_.ends[0].id, first.job->id());
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kReport);
  ExpectCut(second, {0, 1}, AnsweredBy::kSharing);
  EXPECT_FALSE(third.sink->is_done());
  Step();
  EXPECT_THAT(plan_.ends, IsEmpty());
  Step();
  ExpectCut(third, {0, 1, 2, 3}, AnsweredBy::kSharing);
  EXPECT_FALSE(first.sink->is_done());
  EXPECT_EQ(scheduler().answer_cache().entries, 0);
  Step();
  ExpectAnswer(first, {0, 1, 2, 3, 4, 5}, AnsweredBy::kComputing);
  EXPECT_FALSE(first.sink->result.deadline_reached);
  EXPECT_EQ(scheduler().counters().finished, 3);
  RunToEnd();
}

// The oldest is the one that computed, also when its own time is over before the others'.
TEST_F(SingleFlightDeadlineTest, TheOldestMayBeTheOneWhoseTimeIsOver) {
  const TestJob first = Add({.tokens = 6, .question = 1, .deadline = now_ + milliseconds(25)}),
                second = Add({.tokens = 6, .question = 1});
  RunToEnd();
  ExpectCut(first, {0, 1}, AnsweredBy::kComputing);
  ExpectAnswer(second, {0, 1, 2, 3, 4, 5}, AnsweredBy::kComputing);
  EXPECT_EQ(scheduler().counters().generated_tokens, 8);
}

TEST_F(SingleFlightDeadlineTest, AReportWithoutATokenIsAnError) {
  const TestJob first = Add({.question = 1}), second = Add({.question = 1, .deadline = now_ + milliseconds(5)});
  Steps(2);
  EXPECT_EQ(second.sink->result.status, absl::DeadlineExceededError("the time passed before the first token"));
  EXPECT_EQ(scheduler().counters().expired, 1);
  RunToEnd();
  ExpectAnswer(first, {0, 1, 2}, AnsweredBy::kComputing);
}

TEST_F(SingleFlightDeadlineTest, AnAnswerThatIsCompleteWithTheReportIsEverybodys) {
  Use({.answer_cache_bytes = 1 << 20});
  const TestJob first = Add({.question = 1}),
                second = Add({.question = 1, .stream = true, .deadline = now_ + milliseconds(25)});
  Steps(4);
  ASSERT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kReport);
  ExpectAnswer(first, {0, 1, 2}, AnsweredBy::kComputing);
  ExpectAnswer(second, {0, 1, 2}, AnsweredBy::kSharing);
  EXPECT_FALSE(second.sink->result.deadline_reached);
  EXPECT_THAT(second.sink->streamed, ElementsAre(0, 1, 2));
  EXPECT_EQ(scheduler().answer_cache().entries, 1);
}

// Nothing of it is kept, or given to one that has more time.
TEST_F(SingleFlightDeadlineTest, ASequenceEndsWhenTheTimeOfAllIsOver) {
  Use({.answer_cache_bytes = 1 << 20});
  const JobShape hurried{.tokens = 100, .question = 1, .deadline = now_ + milliseconds(25)};
  const TestJob first = Add(hurried), second = Add(hurried);
  Steps(4);
  ASSERT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kFinish);
  ExpectCut(first, {0, 1}, AnsweredBy::kComputing);
  ExpectCut(second, {0, 1}, AnsweredBy::kSharing);
  EXPECT_TRUE(scheduler().idle());
  EXPECT_EQ(scheduler().answer_cache().entries, 0);
  const TestJob again = Add({.tokens = 100, .question = 1});
  EXPECT_FALSE(again.sink->is_done());
  Cancel(again);
  RunToEnd();
}

TEST_F(SingleFlightDeadlineTest, BothKindsOfDeadlinesMayPassAtOnce) {
  const TimePoint at = now_ + milliseconds(25);
  const TestJob cut = Add({.tokens = 100, .question = 1, .deadline = at}),
                failed = Add({.tokens = 100, .question = 1, .deadline = at, .at_deadline = EndKind::kDiscard});
  Steps(4);
  ASSERT_EQ(plan_.ends.size(), 1u);
  EXPECT_EQ(plan_.ends[0].kind, EndKind::kFinish);
  ExpectCut(cut, {0, 1}, AnsweredBy::kComputing);
  EXPECT_TRUE(absl::IsDeadlineExceeded(failed.sink->result.status));
  RunToEnd();
}

// What there was before the step in which the sequence failed.
TEST_F(SingleFlightDeadlineTest, AReportComesBeforeAFailure) {
  const TestJob first = Add({.tokens = 9, .question = 1}),
                second = Add({.tokens = 9, .question = 1, .deadline = now_ + milliseconds(25)});
  Steps(3);
  engine_.failing.insert(first.job->id());
  Step();
  EXPECT_TRUE(absl::IsInternal(first.sink->result.status));
  ExpectCut(second, {0, 1}, AnsweredBy::kSharing);
  RunToEnd();
}

// Its answer is from before the step, and so are its tokens.
TEST_F(SingleFlightDeadlineTest, AStreamThatIsCutIsGivenNoTokenMore) {
  const TestJob first = Add({.tokens = 6, .question = 1, .stream = true}),
                second = Add({.tokens = 6, .question = 1, .stream = true, .deadline = now_ + milliseconds(25)});
  Steps(4);
  ExpectCut(second, {0, 1}, AnsweredBy::kSharing);
  EXPECT_THAT(second.sink->streamed, ElementsAre(0, 1));
  EXPECT_THAT(first.sink->streamed, ElementsAre(0, 1, 2));
  RunToEnd();
}

}  // namespace
}  // namespace elserve
