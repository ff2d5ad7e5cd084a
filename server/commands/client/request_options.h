// The options that every command with requests has.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_REQUEST_OPTIONS_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_REQUEST_OPTIONS_H_

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <CLI/App.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proto/elserve/v1/elserve.pb.h"

namespace elserve {

struct RequestOptions {
  std::string server = "127.0.0.1:8500";
  std::string model;                                             // empty: the only one
  std::vector<std::string> parameters;                           // "num_beams=4"
  std::string source_language, target_language;                  // codes; empty: the model's defaults
  std::string answer_prefix;                                     // what answers begin with; empty: as the model likes
  int top_logprobs = 0;                                          // alternatives of each token, in JSON
  double timeout_seconds = 0;                                    // 0: none
  std::string on_deadline = "fail";                              // or "best_so_far"
  bool truncate = false;                                         // cut long texts instead of refusing them
  bool chunk = false;                                            // take long texts in windows
  std::optional<int> window_tokens, overlap_tokens, max_rounds;  // of chunk; not set: as the model says
  std::string join;                                              // likewise; empty: likewise
  bool progress = false;                                         // of chunk, also where there is no terminal
  std::vector<std::string> focus;                                // of summaries: what matters, as it stands in the text
  std::optional<double> focus_strength;                          // not set: 1
  bool json = false;
  bool stream = false;
  bool timings = false;
  bool lines = false;  // every line of the input is a text of its own
  int concurrency = 8;
  std::vector<std::string> files;  // none, or "-": standard input
};

void AddServerOption(CLI::App& command, RequestOptions* options);
// All of them.
void AddRequestOptions(CLI::App& command, RequestOptions* options);

// Those of texts that are taken in windows. `summary`: of summaries, which are joined.
void AddChunkOptions(CLI::App& command, RequestOptions* options, bool summary);

// Those of summaries that are steered to parts of the text.
void AddFocusOptions(CLI::App& command, RequestOptions* options);

std::shared_ptr<grpc::Channel> Connect(const RequestOptions& options);
void SetDeadline(const RequestOptions& options, grpc::ClientContext* context);

// Fills the message from "name=value" texts. An error says what is wrong with which; nullopt: none.
std::optional<std::string> ParseParameters(const std::vector<std::string>& assignments,
                                           v1::DecodingParameters* parameters);

// Fills the fields that all requests have in common; errors as above.
template <typename Request>
std::optional<std::string> FillCommon(const RequestOptions& options, Request* request) {
  request->set_model(options.model);
  if (options.truncate) request->set_truncation(v1::TRUNCATION_TRUNCATE);
  request->set_source_language(options.source_language);
  request->set_target_language(options.target_language);
  if (!options.answer_prefix.empty()) request->set_prefix_text(options.answer_prefix);
  request->set_top_logprobs(options.top_logprobs);
  request->set_on_deadline(options.on_deadline == "best_so_far" ? v1::ON_DEADLINE_BEST_SO_FAR : v1::ON_DEADLINE_FAIL);
  return ParseParameters(options.parameters, request->mutable_parameters());
}

// Sets truncation and chunk as the options say, of requests that have them.
template <typename Request>
void FillChunk(const RequestOptions& options, Request* request) {
  if (!options.chunk) return;
  request->set_truncation(v1::TRUNCATION_CHUNK);
  v1::ChunkOptions& chunk = *request->mutable_chunk();
  if (options.window_tokens) chunk.set_window_tokens(*options.window_tokens);
  if (options.overlap_tokens) chunk.set_overlap_tokens(*options.overlap_tokens);
  if (options.max_rounds) chunk.set_max_rounds(*options.max_rounds);
  if (options.join == "concatenate") chunk.set_join(v1::JOIN_CONCATENATE);
  if (options.join == "resummarize") chunk.set_join(v1::JOIN_RESUMMARIZE);
}

// Makes a salient span of each place where the document has one of `focus`. An error names the one that it does not
// have; nullopt: none.
std::optional<std::string> FillFocus(const RequestOptions& options, v1::SummarizeRequest* request);

// "INVALID_ARGUMENT: num_beams is 99; ..."
std::string Describe(const grpc::Status& status);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_REQUEST_OPTIONS_H_
