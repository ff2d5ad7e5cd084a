#include "server/commands/client/summarize.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "server/commands/client/command.h"
#include "server/commands/client/printing.h"

namespace elserve {
namespace {

class Summarizer {
 public:
  Summarizer(const RequestOptions& options, v1::SummarizeRequest request)
      : options_(options), request_(std::move(request)), stub_(v1::GenerationService::NewStub(Connect(options))) {}

  Output Run(const Input& input) const {
    v1::SummarizeRequest request = request_;
    request.set_document(input.text);
    grpc::ClientContext context;
    SetDeadline(options_, &context);
    return options_.stream ? Stream(input, request, &context) : Ask(input, request, &context);
  }

 private:
  Output Ask(const Input& input, const v1::SummarizeRequest& request, grpc::ClientContext* context) const {
    const auto start = std::chrono::steady_clock::now();
    v1::GenerateResponse response;
    const grpc::Status status = stub_->Summarize(context, request, &response);
    if (!status.ok()) return {.out = {}, .error = Describe(status)};
    const double seconds = SecondsSince(start);
    if (options_.json) return {.out = JsonLine(input.name, seconds, "response", response), .error = {}};
    return {.out = Text(input, response) + TimingsLine(response, seconds), .error = {}};
  }

  // Prints what comes at once: nothing else prints meanwhile.
  Output Stream(const Input& input, const v1::SummarizeRequest& request, grpc::ClientContext* context) const {
    const auto start = std::chrono::steady_clock::now();
    const auto reader = stub_->StreamSummarize(context, request);
    if (!options_.json && PrintsNames(options_)) std::cout << input.name << ": " << std::flush;
    v1::GenerateChunk chunk;
    v1::GenerateResponse response;
    while (reader->Read(&chunk)) {
      if (options_.json) {
        std::cout << JsonLine(
            input.name, SecondsSince(start), chunk.has_response() ? "response" : "delta",
            chunk.has_response() ? static_cast<const google::protobuf::Message&>(chunk.response()) : chunk.delta());
      } else if (chunk.has_delta()) {
        std::cout << (options_.lines ? OneLine(chunk.delta().text()) : chunk.delta().text());
      }
      std::cout.flush();
      if (chunk.has_response()) response = std::move(*chunk.mutable_response());
    }
    const grpc::Status status = reader->Finish();
    if (!status.ok()) return {.out = options_.json || options_.lines ? "" : "\n", .error = Describe(status)};
    return {.out = options_.json ? "" : "\n" + TimingsLine(response, SecondsSince(start)), .error = {}};
  }

  std::string Text(const Input& input, const v1::GenerateResponse& response) const {
    std::string out;
    for (int i = 0; i < response.hypotheses_size(); ++i) {
      const v1::Hypothesis& hypothesis = response.hypotheses(i);
      if (PrintsNames(options_)) out += input.name + ": ";
      if (response.hypotheses_size() > 1) {
        char rank[64];
        std::snprintf(rank, sizeof(rank), "[%d] %.4f ", i + 1, static_cast<double>(hypothesis.score()));
        out += rank;
      }
      out += (options_.lines ? OneLine(hypothesis.text()) : hypothesis.text()) + "\n";
    }
    return out;
  }

  std::string TimingsLine(const v1::GenerateResponse& response, double seconds) const {
    return options_.timings ? "    " + Timings(response.usage(), seconds) + "\n" : "";
  }

  const RequestOptions& options_;
  const v1::SummarizeRequest request_;
  const std::unique_ptr<v1::GenerationService::Stub> stub_;
};

int RunSummarize(const RequestOptions& options) {
  v1::SummarizeRequest request;
  if (const auto error = FillCommon(options, &request)) {
    std::cerr << "elserve: " << *error << "\n";
    return EXIT_FAILURE;
  }
  const Summarizer summarizer(options, std::move(request));
  return RunForInputs(options, [&summarizer](const Input& input) { return summarizer.Run(input); });
}

}  // namespace

void AddSummarize(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<RequestOptions>();
  CLI::App* command = app.add_subcommand("summarize", "Summarize files, or standard input");
  AddRequestOptions(*command, options.get());
  command->callback([=] { *run = [options] { return RunSummarize(*options); }; });
}

}  // namespace elserve
