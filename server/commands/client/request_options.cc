#include "server/commands/client/request_options.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <CLI/CLI.hpp>
#include <chrono>

#include "absl/status/status.h"
#include "server/parameters/parameters.h"

namespace elserve {

void AddServerOption(CLI::App& command, RequestOptions* options) {
  command.add_option("--server", options->server, "HOST:PORT of the server")->capture_default_str();
  command.add_flag("--json", options->json, "Print JSON, an object a line");
  command.add_option("--timeout", options->timeout_seconds, "Seconds that a request may take; 0: no limit")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

void AddRequestOptions(CLI::App& command, RequestOptions* options) {
  AddServerOption(command, options);
  command.add_option("FILE", options->files, "Texts; none, or -: standard input");
  command.add_option("--model", options->model, "Name of a model; not needed where the server has one");
  command
      .add_option(
          "--param", options->parameters,
          "A decoding parameter as YAML has it, e.g. num_beams=4; null: not as the server says; may be repeated")
      ->allow_extra_args(false);
  command.add_option("--source-language", options->source_language, "Code of the texts' language");
  command.add_option("--target-language", options->target_language, "Code of the language to be written");
  command.add_option("--answer-prefix", options->answer_prefix, "What every answer has to begin with");
  command.add_option("--top-logprobs", options->top_logprobs, "With --json: so many alternatives for each token")
      ->needs("--json");
  command
      .add_option("--on-deadline", options->on_deadline,
                  "With --timeout: fail at its end, or print what there is shortly before")
      ->needs("--timeout")
      ->check(CLI::IsMember({"fail", "best_so_far"}))
      ->capture_default_str();
  command.add_flag("--truncate", options->truncate, "Cut texts that are too long for the model");
  command.add_flag("--stream", options->stream, "Print while it is written; one request after the other");
  command.add_flag("--timings", options->timings, "Print what each answer took");
  command.add_flag("--lines", options->lines, "Every line of the input is a text of its own");
  command.add_option("--concurrency", options->concurrency, "Requests in flight at once")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
}

void AddChunkOptions(CLI::App& command, RequestOptions* options, bool summary) {
  command.add_flag("--chunk", options->chunk, "Take texts that are too long in windows, cut between sentences")
      ->excludes("--truncate");
  command.add_option("--window-tokens", options->window_tokens, "The most tokens of a window, its prompt included")
      ->needs("--chunk");
  command
      .add_option("--overlap-tokens", options->overlap_tokens, "The most tokens that a window has of the one before")
      ->needs("--chunk");
  command
      .add_flag("--progress", options->progress,
                "Say on standard error which parts are done; a terminal is told anyway")
      ->needs("--chunk");
  if (!summary) return;
  command.add_option("--join", options->join, "What becomes of the windows' summaries")
      ->needs("--chunk")
      ->check(CLI::IsMember({"concatenate", "resummarize"}));
  command.add_option("--max-rounds", options->max_rounds, "Of resummarize: the most rounds, the first included")
      ->needs("--chunk");
}

void AddFocusOptions(CLI::App& command, RequestOptions* options) {
  command
      .add_option(
          "--focus", options->focus,
          "A part of the text that matters, to the byte: the summary is steered to every place that has it; may be "
          "repeated")
      ->allow_extra_args(false);
  command.add_option("--focus-strength", options->focus_strength, "How much, above 0 to 1 (default: 1)")
      ->needs("--focus");
}

std::shared_ptr<grpc::Channel> Connect(const RequestOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(options.server, grpc::InsecureChannelCredentials(), arguments);
}

void SetDeadline(const RequestOptions& options, grpc::ClientContext* context) {
  if (options.timeout_seconds <= 0) return;
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::duration_cast<std::chrono::system_clock::duration>(
                            std::chrono::duration<double>(options.timeout_seconds)));
}

std::optional<std::string> ParseParameters(const std::vector<std::string>& assignments,
                                           v1::DecodingParameters* parameters) {
  for (const std::string& assignment : assignments) {
    const absl::Status status = SetParameterFromText(assignment, parameters);
    if (!status.ok()) return "--param is \"" + assignment + "\": " + std::string(status.message());
  }
  return std::nullopt;
}

std::optional<std::string> FillFocus(const RequestOptions& options, v1::SummarizeRequest* request) {
  const std::string& document = request->document();
  for (const std::string& focus : options.focus) {
    if (focus.empty()) return "--focus is empty: it must be a part of the text";
    size_t at = document.find(focus);
    if (at == std::string::npos) return "--focus is \"" + focus + "\", which the text does not have, to the byte";
    for (; at != std::string::npos; at = document.find(focus, at + focus.size())) {
      v1::Span* const span = request->add_salient_spans();
      span->set_begin(static_cast<int64_t>(at));
      span->set_end(static_cast<int64_t>(at + focus.size()));
    }
  }
  if (options.focus_strength) request->set_salience_strength(*options.focus_strength);
  return std::nullopt;
}

std::string Describe(const grpc::Status& status) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())) + ": " + status.error_message();
}

}  // namespace elserve
