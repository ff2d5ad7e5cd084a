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
#include "server/commands/client/progress.h"

namespace elserve {
namespace {

class Summarizer {
 public:
  Summarizer(const RequestOptions& options, v1::SummarizeRequest request)
      : options_(options), request_(std::move(request)), stub_(v1::GenerationService::NewStub(Connect(options))) {}

  Output Run(const Input& input) const {
    v1::SummarizeRequest request = request_;
    request.set_document(input.text);
    if (const auto error = FillFocus(options_, &request)) return {.out = {}, .error = *error};
    grpc::ClientContext context;
    SetDeadline(options_, &context);
    // Parts come by streams alone.
    return options_.stream || options_.chunk ? Stream(input, request, &context) : Ask(input, request, &context);
  }

 private:
  Output Ask(const Input& input, const v1::SummarizeRequest& request, grpc::ClientContext* context) const {
    const auto start = std::chrono::steady_clock::now();
    v1::GenerateResponse response;
    const grpc::Status status = stub_->Summarize(context, request, &response);
    if (!status.ok()) return {.out = {}, .error = Describe(status)};
    const double seconds = SecondsSince(start);
    return {.out = Whole(input, response, seconds), .error = {}};
  }

  // With --stream prints what comes at once: nothing else prints meanwhile.
  Output Stream(const Input& input, const v1::SummarizeRequest& request, grpc::ClientContext* context) const {
    const auto start = std::chrono::steady_clock::now();
    const auto reader = stub_->StreamSummarize(context, request);
    if (options_.stream && !options_.json && PrintsNames(options_)) std::cout << input.name << ": " << std::flush;
    v1::GenerateChunk chunk;
    v1::GenerateResponse response;
    {
      Progress progress(options_, input);
      while (reader->Read(&chunk)) {
        if (options_.stream) Print(input, chunk, SecondsSince(start));
        if (chunk.has_part()) progress.Show(chunk.part());
        if (chunk.has_response()) response = std::move(*chunk.mutable_response());
      }
    }
    const grpc::Status status = reader->Finish();
    const std::string end = options_.stream && !options_.json ? "\n" : "";
    if (!status.ok()) return {.out = options_.lines ? "" : end, .error = Describe(status)};
    if (!options_.stream) return {.out = Whole(input, response, SecondsSince(start)), .error = {}};
    return {.out = options_.json ? "" : end + TimingsLine(response, SecondsSince(start)), .error = {}};
  }

  void Print(const Input& input, const v1::GenerateChunk& chunk, double seconds) const {
    if (!options_.json) {
      if (chunk.has_delta()) std::cout << (options_.lines ? OneLine(chunk.delta().text()) : chunk.delta().text());
    } else if (chunk.has_response()) {
      std::cout << JsonLine(input.name, seconds, "response", chunk.response());
    } else if (chunk.has_part()) {
      std::cout << JsonLine(input.name, seconds, "part", chunk.part());
    } else {
      std::cout << JsonLine(input.name, seconds, "delta", chunk.delta());
    }
    std::cout.flush();
  }

  std::string Whole(const Input& input, const v1::GenerateResponse& response, double seconds) const {
    if (options_.json) return JsonLine(input.name, seconds, "response", response);
    return Text(input, response) + TimingsLine(response, seconds);
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
  FillChunk(options, &request);
  const Summarizer summarizer(options, std::move(request));
  return RunForInputs(options, [&summarizer](const Input& input) { return summarizer.Run(input); });
}

}  // namespace

void AddSummarize(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<RequestOptions>();
  CLI::App* command = app.add_subcommand("summarize", "Summarize files, or standard input");
  AddRequestOptions(*command, options.get());
  AddChunkOptions(*command, options.get(), /*summary=*/true);
  AddFocusOptions(*command, options.get());
  command->callback([=] { *run = [options] { return RunSummarize(*options); }; });
}

}  // namespace elserve
