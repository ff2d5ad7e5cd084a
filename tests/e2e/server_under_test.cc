#include "tests/e2e/server_under_test.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <fstream>
#include <sstream>

namespace elserve {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(20);

std::string Config(const ServerSetup& setup) {
  std::ostringstream yaml;
  yaml << "server:\n  listen: 127.0.0.1:0\n  ops_listen: 127.0.0.1:0\n";
  for (const std::string& line : setup.server) yaml << "  " << line << "\n";
  yaml << "models:\n";
  for (const std::string& entry : setup.entries) yaml << "  - " << entry << "\n";
  static constexpr const char* kNames[] = {"debian-synopsis", "second", "third"};
  for (int i = 0; setup.entries.empty() && i < setup.models; ++i) {
    yaml << "  - name: " << kNames[i] << "\n    path: " << ELSERVE_SOURCE_DIR << "/models/debian-synopsis\n"
         << "    device: cpu\n    precision: float32\n    memory: 256MiB\n"
         << "    tasks:\n      summarize: {prefix: \"\"}\n"
         << "      questions: {format: highlight, prefix: \"generate question: \", highlight: \"<hl>\"}\n";
    for (const std::string& line : setup.model) yaml << "    " << line << "\n";
  }
  yaml << "logging: " << setup.logging << "\n";
  return yaml.str();
}

}  // namespace

ServerUnderTest::ServerUnderTest(const ServerSetup& setup) {
  const std::string config = directory_.path() + "/config.yaml";
  const std::string ports = directory_.path() + "/ports";
  std::ofstream(config) << Config(setup);
  process_ = std::make_unique<Process>(std::vector<std::string>{"serve", "--config", config, "--port-file", ports});
  EXPECT_TRUE(process_->WaitForOutput("serving listen=", std::chrono::seconds(120))) << process_->error();
  std::ifstream(ports) >> port_ >> ops_port_;
  EXPECT_GT(port_, 0);
  EXPECT_GT(ops_port_, 0);
  channel_ = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
  stub_ = v1::GenerationService::NewStub(channel_);
}

ServerUnderTest::~ServerUnderTest() {
  if (testing::Test::HasFailure()) std::cerr << "the server's log:\n" << process_->error();
  process_.reset();
}

std::string ServerUnderTest::address() const { return "127.0.0.1:" + std::to_string(port_); }

v1::GenerateResponse ServerUnderTest::Summarize(const v1::SummarizeRequest& request) const {
  grpc::ClientContext context;
  v1::GenerateResponse response;
  const grpc::Status status = stub_->Summarize(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

ServerUnderTest::Page ServerUnderTest::Get(const std::string& path) const {
  httplib::Client client("127.0.0.1", ops_port_);
  client.set_read_timeout(30);
  const httplib::Result result = client.Get(path);
  return result ? Page{result->status, result->body} : Page{};
}

double ServerUnderTest::Metric(const std::string& name, const std::string& label) const {
  std::istringstream lines(Get("/metrics").body);
  double sum = 0;
  for (std::string line; std::getline(lines, line);) {
    const size_t end = line.find_first_of("{ ");
    if (end == std::string::npos || line.substr(0, end) != name || line.find(label) == std::string::npos) continue;
    sum += std::stod(line.substr(line.rfind(' ')));
  }
  return sum;
}

bool ServerUnderTest::WaitForMetric(const std::string& name, const std::function<bool(double)>& holds,
                                    std::chrono::seconds timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (std::chrono::steady_clock::now() < deadline) {
    if (holds(Metric(name))) return true;
    std::this_thread::sleep_for(kPollInterval);
  }
  return false;
}

testing::AssertionResult ServerUnderTest::WaitUntilIdle() const {
  const auto zero = [](double value) { return value == 0; };
  for (const char* name : {"elserve_requests_in_flight", "elserve_queue_length", "elserve_sequences_in_flight",
                           "elserve_rows_used", "elserve_memory_used_bytes"}) {
    if (!WaitForMetric(name, zero)) return testing::AssertionFailure() << name << " is " << Metric(name);
  }
  return testing::AssertionSuccess();
}

std::string SomeText(int words) {
  static constexpr const char* kWords[] = {"an",   "editor", "of",      "texts", "with",    "many", "commands",  "and",
                                           "fast", "search", "through", "files", "written", "for",  "terminals."};
  std::string text = "Vim is";
  for (int i = 2; i < words; ++i) text += std::string(" ") + kWords[static_cast<size_t>(i) % std::size(kWords)];
  return text;
}

v1::DecodingParameters LongAnswer(int tokens, int beams) {
  v1::DecodingParameters parameters;
  parameters.set_num_beams(beams);
  parameters.set_max_new_tokens(tokens);
  parameters.set_min_new_tokens(tokens);
  parameters.set_no_repeat_ngram_size(0);
  return parameters;
}

}  // namespace elserve
