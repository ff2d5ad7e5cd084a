// What somebody asks of a model, whatever the protocol: rpc/ translates to this and knows no more of it.
#ifndef ELSERVE_SERVER_REQUESTS_GENERATION_REQUEST_H_
#define ELSERVE_SERVER_REQUESTS_GENERATION_REQUEST_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call_observer.h"
#include "server/requests/languages.h"
#include "server/scheduling/job.h"
#include "server/text/prompts.h"

namespace elserve {

// Where a request came from.
struct CallOrigin {
  Rpc rpc = Rpc::kGenerate;
  TimePoint arrived;
  std::optional<TimePoint> deadline;  // the client's, up to which the protocol waits; none: as long as it takes
  std::string principal = {};         // JobSpec::principal: who asked. Empty: not known
};

// UTF-8, or token ids as they are; neither: not set.
using TextOrIds = std::variant<std::monostate, std::string, std::vector<int32_t>>;

// The API's messages say what each field means, what it may be and what is the case where it is not set. Errors name
// fields as they do.
struct GenerationRequest {
  enum class Task { kGenerate, kSummarize, kQuestions, kScore };
  // What a question is to be answered by: text, span or both.
  struct AskedAnswer {
    std::string text;
    std::optional<Span> span;
  };

  Task task = Task::kGenerate;
  std::string model;
  std::string request_id;
  TextOrIds input;  // kSummarize: the document; kQuestions: the context
  v1::DecodingParameters parameters;
  v1::Truncation truncation = v1::TRUNCATION_UNSPECIFIED;
  std::optional<v1::ChunkOptions> chunk;
  TextLanguages languages;  // "": not named
  TextOrIds answer_prefix;
  std::vector<AskedAnswer> answers;  // of kQuestions
  // Of kSummarize and kGenerate: bytes of the input.
  std::vector<Span> salient_spans;
  std::optional<double> salience_strength;
  std::vector<TextOrIds> targets;  // of kScore, which has none of what stands around this
  bool token_logprobs = false;
  int top_logprobs = 0;
  v1::OnDeadline on_deadline = v1::ON_DEADLINE_UNSPECIFIED;
  CallOrigin origin;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_GENERATION_REQUEST_H_
