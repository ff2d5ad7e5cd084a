#include "server/commands/client/questions.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "server/commands/client/command.h"
#include "server/commands/client/printing.h"
#include "server/commands/client/progress.h"

namespace elserve {
namespace {

struct QuestionsOptions {
  RequestOptions request;
  std::vector<std::string> answers;
  std::vector<std::string> spans;  // "BEGIN:END"
};

std::optional<v1::Span> ParseSpan(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return std::nullopt;
  int64_t begin = 0, end = 0;
  const char* first = text.data();
  const char* last = first + text.size();
  const auto left = std::from_chars(first, first + colon, begin);
  const auto right = std::from_chars(first + colon + 1, last, end);
  if (left.ec != std::errc() || left.ptr != first + colon || right.ec != std::errc() || right.ptr != last) {
    return std::nullopt;
  }
  v1::Span span;
  span.set_begin(begin);
  span.set_end(end);
  return span;
}

class Asker {
 public:
  Asker(const RequestOptions& options, v1::GenerateQuestionsRequest request)
      : options_(options), request_(std::move(request)), stub_(v1::GenerationService::NewStub(Connect(options))) {}

  Output Run(const Input& input) const {
    v1::GenerateQuestionsRequest request = request_;
    request.set_context(input.text);
    grpc::ClientContext context;
    SetDeadline(options_, &context);
    const auto start = std::chrono::steady_clock::now();
    v1::GenerateQuestionsResponse response;
    const bool stream = options_.stream || options_.chunk;
    const grpc::Status status =
        stream ? Stream(input, request, &context, &response) : stub_->GenerateQuestions(&context, request, &response);
    if (!status.ok()) return {.out = {}, .error = Describe(status)};
    const double seconds = SecondsSince(start);
    if (options_.json) return {.out = JsonLine(input.name, seconds, "response", response), .error = {}};
    return {.out = Text(input, response, seconds), .error = {}};
  }

 private:
  // The questions come interleaved: as text they are printed when they are whole, as JSON piece by piece.
  grpc::Status Stream(const Input& input, const v1::GenerateQuestionsRequest& request, grpc::ClientContext* context,
                      v1::GenerateQuestionsResponse* response) const {
    const auto start = std::chrono::steady_clock::now();
    const auto reader = stub_->StreamGenerateQuestions(context, request);
    v1::GenerateQuestionsChunk chunk;
    Progress progress(options_, input);
    while (reader->Read(&chunk)) {
      if (chunk.has_part() && options_.chunk) progress.Show(chunk.part());
      if (chunk.has_response()) {
        *response = std::move(*chunk.mutable_response());
      } else if (options_.json && options_.stream) {
        std::cout << JsonLine(input.name, SecondsSince(start), "chunk", chunk) << std::flush;
      }
    }
    return reader->Finish();
  }

  std::string Text(const Input& input, const v1::GenerateQuestionsResponse& response, double seconds) const {
    std::string out;
    if (PrintsNames(options_)) out += input.name + "\n";
    const std::string indent = PrintsNames(options_) ? "  " : "";
    for (const v1::Question& question : response.questions()) {
      for (const v1::Hypothesis& hypothesis : question.hypotheses()) {
        out += indent + "Q: " + OneLine(hypothesis.text()) + "\n";
      }
      if (question.has_answer()) out += indent + "A: " + OneLine(question.answer().text()) + "\n";
      if (options_.timings && question.has_usage()) out += indent + "    " + Timings(question.usage(), seconds) + "\n";
    }
    for (const v1::Part& part : response.parts()) {
      if (options_.timings) out += indent + "    " + Timings(part.usage(), seconds) + "\n";
    }
    return out;
  }

  const RequestOptions& options_;
  const v1::GenerateQuestionsRequest request_;
  const std::unique_ptr<v1::GenerationService::Stub> stub_;
};

int RunQuestions(const QuestionsOptions& options) {
  v1::GenerateQuestionsRequest request;
  if (const auto error = FillCommon(options.request, &request)) {
    std::cerr << "elserve: " << *error << "\n";
    return EXIT_FAILURE;
  }
  FillChunk(options.request, &request);
  for (const std::string& answer : options.answers) request.add_answers()->set_text(answer);
  for (const std::string& text : options.spans) {
    const std::optional<v1::Span> span = ParseSpan(text);
    if (!span) {
      std::cerr << "elserve: --span is \"" << text << "\"; it has to read BEGIN:END, offsets in bytes\n";
      return EXIT_FAILURE;
    }
    *request.add_answers()->mutable_span() = *span;
  }
  const Asker asker(options.request, std::move(request));
  return RunForInputs(options.request, [&asker](const Input& input) { return asker.Run(input); });
}

}  // namespace

void AddQuestions(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<QuestionsOptions>();
  CLI::App* command = app.add_subcommand(
      "questions", "Ask questions about a text: for each answer that is given, or as the model finds them");
  AddRequestOptions(*command, &options->request);
  AddChunkOptions(*command, &options->request, /*summary=*/false);
  command->add_option("--answer", options->answers, "What a question is to be answered by; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--span", options->spans, "The same by its place, BEGIN:END in bytes; may be repeated")
      ->allow_extra_args(false);
  command->callback([=] { *run = [options] { return RunQuestions(*options); }; });
}

}  // namespace elserve
