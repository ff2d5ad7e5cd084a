#include "server/commands/client/score.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "server/commands/client/command.h"
#include "server/commands/client/inputs.h"
#include "server/commands/client/printing.h"

namespace elserve {
namespace {

struct ScoreOptions {
  RequestOptions request;  // its files are the sources
  std::string targets;     // a file of texts, a line each
};

// A line for each target: the mean of its tokens' log-probabilities, their sum, how many there are, and the text.
std::string Lines(const v1::ScoreRequest& request, const v1::ScoreResponse& response) {
  std::string out;
  for (int i = 0; i < response.scores_size(); ++i) {
    const v1::TargetScore& score = response.scores(i);
    char numbers[64];
    std::snprintf(numbers, sizeof(numbers), "%9.4f %10.4f %5d  ", static_cast<double>(score.mean()),
                  static_cast<double>(score.sum()), score.token_ids_size());
    out += numbers + request.targets(i).text() + "\n";
  }
  return out;
}

class Scorer {
 public:
  Scorer(const RequestOptions& options, v1::ScoreRequest request)
      : options_(options), request_(std::move(request)), stub_(v1::GenerationService::NewStub(Connect(options))) {}

  Output Run(const Input& input) const {
    v1::ScoreRequest request = request_;
    request.set_text(input.text);
    grpc::ClientContext context;
    SetDeadline(options_, &context);
    const auto start = std::chrono::steady_clock::now();
    v1::ScoreResponse response;
    const grpc::Status status = stub_->Score(&context, request, &response);
    if (!status.ok()) return {.out = {}, .error = Describe(status)};
    if (options_.json) return {.out = JsonLine(input.name, SecondsSince(start), "response", response), .error = {}};
    const std::string name = PrintsNames(options_) ? input.name + ":\n" : "";
    return {.out = name + Lines(request, response), .error = {}};
  }

 private:
  const RequestOptions& options_;
  const v1::ScoreRequest request_;
  const std::unique_ptr<v1::GenerationService::Stub> stub_;
};

int RunScore(const ScoreOptions& options) {
  v1::ScoreRequest request;
  request.set_model(options.request.model);
  if (options.request.truncate) request.set_truncation(v1::TRUNCATION_TRUNCATE);
  request.set_source_language(options.request.source_language);
  request.set_target_language(options.request.target_language);
  InputReader targets({options.targets}, /*lines=*/true, std::cin);
  while (const std::optional<Input> target = targets.Next()) {
    if (!target->error.empty()) {
      std::cerr << "elserve: " << target->name << ": " << target->error << "\n";
      return EXIT_FAILURE;
    }
    request.add_targets()->set_text(target->text);
  }
  const Scorer scorer(options.request, std::move(request));
  return RunForInputs(options.request, [&scorer](const Input& input) { return scorer.Run(input); });
}

}  // namespace

void AddScore(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<ScoreOptions>();
  CLI::App* command = app.add_subcommand("score", "Show what a model thinks of given texts for a source");
  AddServerOption(*command, &options->request);
  command->add_option("--targets", options->targets, "A file of texts to score, one a line")->required();
  command->add_option("--model", options->request.model, "Name of a model; not needed where the server has one");
  command->add_option("--source-language", options->request.source_language, "Code of the sources' language");
  command->add_option("--target-language", options->request.target_language, "Code of the targets' language");
  command->add_flag("--truncate", options->request.truncate, "Cut sources that are too long");
  command->add_option("FILE", options->request.files, "Sources; none, or -: standard input");
  command->callback([=] { *run = [options] { return RunScore(*options); }; });
}

}  // namespace elserve
