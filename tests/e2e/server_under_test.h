// The real binary on free ports of the loopback interface, and what tests need to talk to it.
#ifndef ELSERVE_TESTS_E2E_SERVER_UNDER_TEST_H_
#define ELSERVE_TESTS_E2E_SERVER_UNDER_TEST_H_

#include <grpcpp/channel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "tests/test_directory.h"

namespace elserve {

// A process of the elserve binary; its standard output and error are read while it runs. Killed at the end if it still
// runs.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments, const std::string& standard_input = "");
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int number) const;
  // Until it ended: its exit code, or -signal. nullopt: it still runs after the timeout.
  std::optional<int> Wait(std::chrono::seconds timeout = std::chrono::seconds(60));
  // Until its output holds `text`; false: it ended first, or the timeout passed.
  bool WaitForOutput(const std::string& text, std::chrono::seconds timeout = std::chrono::seconds(60));
  // All that it wrote so far.
  std::string output() const;
  std::string error() const;

 private:
  void Read(int out, int err);

  int pid_ = -1;
  std::optional<int> exit_code_;
  std::thread reader_;
  mutable std::mutex mutex_;
  // Guarded by mutex_.
  mutable std::condition_variable changed_;
  std::string output_, error_;
  bool closed_ = false;
};

struct ServerSetup {
  // Lines under the model's entry of the configuration, e.g. "max_queued_requests: 1".
  std::vector<std::string> model = {};
  // Lines under `server:`.
  std::vector<std::string> server = {};
  // How many models, all the same: debian-synopsis, second, third.
  int models = 1;
  // Not empty: the entries under `models:` instead of all these, each a line in braces: "{name: a, path: /b}".
  std::vector<std::string> entries = {};
  std::string logging = "{level: info, format: text}";
};

// `elserve serve`; without other entries with models/debian-synopsis, float32 on the CPU.
class ServerUnderTest {
 public:
  // Returns once it serves; fails the test if it does not.
  explicit ServerUnderTest(const ServerSetup& setup = {});
  ~ServerUnderTest();

  Process& process() { return *process_; }
  std::string address() const;
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  v1::GenerationService::Stub& stub() const { return *stub_; }
  // Its answer; fails the test if it refuses.
  v1::GenerateResponse Summarize(const v1::SummarizeRequest& request) const;

  struct Page {
    int status = 0;  // 0: nobody answers
    std::string body;
  };
  Page Get(const std::string& path) const;
  // The sum over all samples of the metric whose labels hold `label` (`outcome="OK"`); 0 if there are none.
  double Metric(const std::string& name, const std::string& label = "") const;
  // Scrapes until the metric's value satisfies `holds`; false after the timeout.
  bool WaitForMetric(const std::string& name, const std::function<bool(double)>& holds,
                     std::chrono::seconds timeout = std::chrono::seconds(60)) const;
  // Nothing is queued, in flight or in memory any more.
  testing::AssertionResult WaitUntilIdle() const;

 private:
  TestDirectory directory_;
  std::unique_ptr<Process> process_;
  int port_ = 0, ops_port_ = 0;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

// A stream of which the first piece is there, so that its request certainly runs.
class RunningStream {
 public:
  RunningStream(v1::GenerationService::Stub& stub, const v1::GenerateRequest& request,
                std::optional<std::chrono::milliseconds> timeout = std::nullopt) {
    if (timeout) context_.set_deadline(std::chrono::system_clock::now() + *timeout);
    reader_ = stub.StreamGenerate(&context_, request);
    EXPECT_TRUE(Read());
  }
  void Cancel() { context_.TryCancel(); }
  grpc::Status Finish() {
    while (Read()) {
    }
    return reader_->Finish();
  }
  // What the pieces read so far join to, and the last one.
  const std::string& text() const { return text_; }
  const v1::GenerateChunk& last() const { return chunk_; }
  const v1::GenerateResponse& response() const { return chunk_.response(); }

 private:
  bool Read() {
    const bool read = reader_->Read(&chunk_);
    if (read) text_ += chunk_.delta().text();
    return read;
  }

  grpc::ClientContext context_;
  v1::GenerateChunk chunk_;
  std::string text_;
  std::unique_ptr<grpc::ClientReader<v1::GenerateChunk>> reader_;
};

// A text that the model can make something of, of about `words` words.
std::string SomeText(int words);

// Parameters with which an answer takes a while: `tokens` new ones, no EOS before.
v1::DecodingParameters LongAnswer(int tokens, int beams = 1);

}  // namespace elserve

#endif  // ELSERVE_TESTS_E2E_SERVER_UNDER_TEST_H_
