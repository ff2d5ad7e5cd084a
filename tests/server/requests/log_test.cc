// The log's lines about calls, and what clients cannot do to them.
#include "server/requests/log.h"

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <sstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/requests/intake.h"
#include "server/rpc/requests.h"
#include "tests/server/requests/fake_model.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class LogTest : public ::testing::Test {
 protected:
  LogTest() : before_(spdlog::default_logger()) {
    auto logger = std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(lines_));
    logger->set_level(spdlog::level::debug);
    logger->set_pattern("%l %v");
    spdlog::set_default_logger(std::move(logger));
  }
  ~LogTest() override { spdlog::set_default_logger(before_); }

  // The line of a call that ended with this id and status.
  std::string End(std::string_view request_id, const absl::Status& status, const CallRecord& record = {}) {
    lines_.str("");
    LogCallEnd(request_id, record, status, {.jobs = 2, .source_tokens = 30, .generated_tokens = 4});
    return lines_.str();
  }

  const std::shared_ptr<spdlog::logger> before_;
  std::ostringstream lines_;
};

TEST_F(LogTest, SaysWhatACallWas) {
  CallRecord record;
  record.model = "m";
  record.rpc = Rpc::kStreamGenerate;
  record.seconds = 1.5;
  record.longest_queue_seconds = 0.25;
  EXPECT_EQ(
      End("r-1", absl::OkStatus(), record),
      "info request_id=r-1 ended rpc=StreamGenerate model=m outcome=OK seconds=1.5000 queue_seconds=0.2500 jobs=2 "
      "source_tokens=30 generated_tokens=4\n");
}

TEST_F(LogTest, ErrorsOfTheServerAloneAreErrors) {
  EXPECT_THAT(End("r", absl::InternalError("a \"b\"\n")), StartsWith("error request_id=r ended"));
  EXPECT_THAT(lines_.str(), HasSubstr(" error=\"a \\\"b\\\"\\n\"\n"));
  EXPECT_THAT(End("r", absl::UnavailableError("c")), StartsWith("info request_id=r ended"));
}

TEST_F(LogTest, NoIdForgesALine) {
  EXPECT_THAT(End("", absl::OkStatus()), StartsWith("info request_id=- ended"));
  EXPECT_THAT(End("!~", absl::OkStatus()), StartsWith("info request_id=!~ ended"));
  for (const std::string id : {"a b", "a\nb", "a\"b", "a\\b", "a\x7f", "\xff"}) {
    EXPECT_THAT(End(id, absl::OkStatus()), StartsWith("info request_id=\"")) << id;
    EXPECT_EQ(lines_.str().find('\n'), lines_.str().size() - 1);
  }
  const std::string longest(128, 'x');
  EXPECT_THAT(End(longest, absl::OkStatus()), StartsWith("info request_id=" + longest + " ended"));
  EXPECT_THAT(End(longest + "y", absl::OkStatus()), StartsWith("info request_id=\"" + longest + "\" ended"));
}

// Intake and Call say how large a call is: all of its jobs together.
TEST_F(LogTest, CountsTheTokensOfAllJobs) {
  RecordingObserver observer;
  const auto listener = std::make_shared<RecordingListener>();
  {
    const ModelRegistry models(MakeFakeModels());
    Executor executor(1);
    Intake intake(&models, &executor, &observer);
    v1::GenerateQuestionsRequest request;
    request.set_context("one two");
    request.add_answers()->set_text("one");
    request.add_answers()->set_text("two");
    request.mutable_parameters()->set_max_length(4);
    const auto call = intake.Accept(
        ToGenerationRequest(
            request, {.rpc = Rpc::kGenerateQuestions, .arrived = std::chrono::steady_clock::now(), .deadline = {}}),
        listener);
    ASSERT_TRUE(call.ok()) << call.status();
    listener->call = call->get();
    (*call)->Start();
    ASSERT_TRUE(listener->Wait().ok());
  }
  const auto& outputs = listener->answer->outputs;
  const int source = outputs[0].usage->source_tokens() + outputs[1].usage->source_tokens();
  EXPECT_THAT(
      lines_.str(),
      HasSubstr("started rpc=GenerateQuestions model=fake jobs=2 source_tokens=" + std::to_string(source) + "\n"));
  EXPECT_THAT(lines_.str(), HasSubstr("jobs=2 source_tokens=" + std::to_string(source) + " generated_tokens=6\n"));
  EXPECT_THAT(lines_.str(), Not(HasSubstr("error=")));
}

}  // namespace
}  // namespace elserve
