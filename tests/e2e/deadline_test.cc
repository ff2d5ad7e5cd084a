// Answers whose time is over: max_time, and what the client's own deadline does.
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/server_under_test.h"
#include "tests/test_directory.h"

namespace elserve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

// Steps of a T5's decoder have no last position: an answer of so many tokens takes minutes on any machine.
constexpr int kEndless = 100000;

// Two of the tiny T5, one of which has a max_time among its defaults.
class DeadlineTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    checkpoint_ = new TestDirectory();
    const std::filesystem::path golden = std::filesystem::path(ELSERVE_SOURCE_DIR) / "tests/golden";
    for (const char* from : {"checkpoints/t5-hub", "tokenizer/t5-json"}) {
      for (const auto& file : std::filesystem::directory_iterator(golden / from)) {
        const std::filesystem::path link = std::filesystem::path(checkpoint_->path()) / file.path().filename();
        if (!std::filesystem::exists(link)) std::filesystem::create_symlink(file.path(), link);
      }
    }
    const std::string common = absl::StrCat(
        ", path: \"", checkpoint_->path(),
        "\", device: cpu, precision: float32, memory: 192MiB, max_source_tokens: 64, max_decoder_tokens: ", kEndless,
        ", tasks: {summarize: {prefix: \"\"}}");
    server_ = new ServerUnderTest(
        {.entries = {
             absl::StrCat("{name: patient, max_rows: 4", common, "}"),
             absl::StrCat("{name: hurried, max_rows: 1, single_flight: false, defaults: {max_time: 1}", common, "}"),
         }});
  }
  static void TearDownTestSuite() {
    delete server_;
    delete checkpoint_;
  }
  static v1::GenerationService::Stub& stub() { return server_->stub(); }

  // Of a client that asks for an answer without end.
  static std::vector<std::string> Command() {
    std::vector<std::string> command{"summarize", "--server", server_->address(), "--model",
                                     "patient",   "--json",   "--param",          "num_beams=1"};
    for (const char* length : {"max_new_tokens=", "min_new_tokens="}) {
      command.insert(command.end(), {"--param", absl::StrCat(length, kEndless - 1)});
    }
    return command;
  }
  // Requests that ended so, once nothing runs.
  static double Outcomes(const std::string& outcome) {
    EXPECT_TRUE(server_->WaitUntilIdle());
    return server_->Metric("elserve_requests_total", "outcome=\"" + outcome + "\"");
  }

  static inline TestDirectory* checkpoint_ = nullptr;
  static inline ServerUnderTest* server_ = nullptr;
};

v1::GenerateRequest Endless(const std::string& model, int beams = 1) {
  v1::GenerateRequest request;
  request.set_model(model);
  request.set_text("hello world");
  *request.mutable_parameters() = LongAnswer(kEndless - 1, beams);
  return request;
}

// A unary call on its way.
class Unary {
 public:
  Unary(v1::GenerationService::Stub& stub, v1::GenerateRequest request,
        std::optional<milliseconds> timeout = std::nullopt)
      : request_(std::move(request)) {
    if (timeout) context_.set_deadline(std::chrono::system_clock::now() + *timeout);
    stub.async()->Generate(&context_, &request_, &response_, [this](grpc::Status status) {
      status_ = std::move(status);
      done_.Notify();
    });
  }
  ~Unary() {
    context_.TryCancel();
    done_.WaitForNotification();
  }
  const grpc::Status& Finish() {
    done_.WaitForNotification();
    return status_;
  }
  const v1::GenerateResponse& response() const { return response_; }

 private:
  const v1::GenerateRequest request_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  grpc::Status status_;
  absl::Notification done_;
};

void ExpectCut(const v1::GenerateResponse& response) {
  ASSERT_EQ(response.hypotheses_size(), 1);
  EXPECT_EQ(response.hypotheses(0).finish_reason(), v1::FINISH_REASON_DEADLINE);
  EXPECT_GT(response.hypotheses(0).token_ids_size(), 0);
  EXPECT_FALSE(response.hypotheses(0).text().empty());
}

TEST_F(DeadlineTest, MaxTimeEndsAnAnswerWithWhatThereIs) {
  const double before = Outcomes("OK");
  v1::GenerateRequest request = Endless("patient");
  request.mutable_parameters()->set_max_time(1.5);
  Unary unary(stub(), request);
  request.mutable_parameters()->set_num_beams(2);
  RunningStream stream(stub(), request);
  const grpc::Status status = stream.Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ExpectCut(stream.response());
  EXPECT_EQ(stream.text(), stream.response().hypotheses(0).text());
  ASSERT_TRUE(unary.Finish().ok()) << unary.Finish().error_message();
  ExpectCut(unary.response());
  EXPECT_EQ(unary.response().parameters().max_time(), 1.5);
  EXPECT_EQ(Outcomes("OK"), before + 2);
}

TEST_F(DeadlineTest, AModelsDefaultIsForAllItsRequests) {
  Unary request(stub(), Endless("hurried"));
  ASSERT_TRUE(request.Finish().ok()) << request.Finish().error_message();
  ExpectCut(request.response());
  EXPECT_EQ(request.response().parameters().max_time(), 1);
}

// The one row is taken, so that nothing else begins.
TEST_F(DeadlineTest, BeforeTheFirstTokenItIsAnError) {
  const double before = Outcomes("DEADLINE_EXCEEDED");
  v1::GenerateRequest holding = Endless("hurried");
  holding.mutable_parameters()->add_reset("max_time");
  RunningStream holder(stub(), holding);
  v1::GenerateRequest request = Endless("hurried");
  request.mutable_parameters()->set_max_time(0.125);
  Unary max_time(stub(), request);
  request.set_on_deadline(v1::ON_DEADLINE_BEST_SO_FAR);
  request.mutable_parameters()->set_max_time(3600);
  Unary deadline(stub(), request, milliseconds(500));
  for (Unary* unary : {&max_time, &deadline}) {
    EXPECT_EQ(unary->Finish().error_code(), grpc::DEADLINE_EXCEEDED) << unary->Finish().error_message();
  }
  EXPECT_THAT(max_time.Finish().error_message(), HasSubstr("max_time, 0.125 s, passed after 0."));
  holder.Cancel();
  EXPECT_EQ(holder.Finish().error_code(), grpc::CANCELLED);
  EXPECT_EQ(Outcomes("DEADLINE_EXCEEDED"), before + 2);
}

TEST_F(DeadlineTest, BestSoFarReachesTheClientBeforeItsDeadline) {
  const double before = Outcomes("OK");
  std::vector<std::string> command = Command();
  command.insert(command.end(), {"--timeout", "10", "--on-deadline", "best_so_far"});
  Process client(command, "hello world");
  v1::GenerateRequest request = Endless("patient");
  request.set_on_deadline(v1::ON_DEADLINE_BEST_SO_FAR);
  Unary unary(stub(), request, seconds(10));
  request.mutable_parameters()->set_num_beams(2);
  RunningStream stream(stub(), request, seconds(10));
  const grpc::Status status = stream.Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ExpectCut(stream.response());
  EXPECT_EQ(stream.text(), stream.response().hypotheses(0).text());
  ASSERT_TRUE(unary.Finish().ok()) << unary.Finish().error_message();
  ExpectCut(unary.response());
  EXPECT_EQ(unary.response().parameters().max_time(), -1);
  EXPECT_EQ(client.Wait(), 0) << client.error();
  EXPECT_THAT(client.output(), HasSubstr("FINISH_REASON_DEADLINE"));
  EXPECT_EQ(Outcomes("OK"), before + 3);
}

// Times that gRPC rounds up on their way, too.
TEST_F(DeadlineTest, TheDeadlineFailsACallAndMetricsAgree) {
  const double expired = Outcomes("DEADLINE_EXCEEDED"), answered = Outcomes("OK"), cancelled = Outcomes("CANCELLED");
  std::vector<std::unique_ptr<Unary>> all;
  for (const milliseconds timeout : {milliseconds(2011), milliseconds(3033), milliseconds(4044)}) {
    all.push_back(std::make_unique<Unary>(stub(), Endless("patient"), timeout));
  }
  v1::GenerateRequest request = Endless("patient");
  request.set_on_deadline(v1::ON_DEADLINE_FAIL);
  RunningStream stream(stub(), request, milliseconds(2222));
  EXPECT_EQ(stream.Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  for (const auto& unary : all) {
    EXPECT_EQ(unary->Finish().error_code(), grpc::DEADLINE_EXCEEDED) << unary->Finish().error_message();
  }
  EXPECT_EQ(Outcomes("DEADLINE_EXCEEDED"), expired + 4);
  EXPECT_EQ(Outcomes("OK"), answered);
  EXPECT_EQ(Outcomes("CANCELLED"), cancelled);
}

TEST_F(DeadlineTest, ClientsSayWhatTheDeadlineDoes) {
  std::vector<std::string> fail = Command();
  fail.insert(fail.end(), {"--timeout", "1", "--on-deadline", "fail"});
  Process failed(fail, "hello world");
  EXPECT_EQ(failed.Wait(), 1);
  EXPECT_THAT(failed.error(), HasSubstr("DEADLINE_EXCEEDED"));
  Process unknown({"summarize", "--timeout", "1", "--on-deadline", "never"});
  EXPECT_EQ(unknown.Wait(), 2);
  EXPECT_THAT(unknown.error(), HasSubstr("--on-deadline: never not in {fail,best_so_far}"));
}

}  // namespace
}  // namespace elserve
