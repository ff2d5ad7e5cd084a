#include "server/rpc/requests.h"

#include <utility>

namespace elserve {
namespace {

using Task = GenerationRequest::Task;

std::vector<int32_t> Ids(const v1::TokenList& list) { return {list.ids().begin(), list.ids().end()}; }

// `message`: has the oneof of text and token_ids.
template <typename Message>
TextOrIds Input(Message& message) {
  if (message.has_text()) return std::move(*message.mutable_text());
  if (message.has_token_ids()) return Ids(message.token_ids());
  return {};
}

// What all four have, under the same names.
template <typename Request>
GenerationRequest Common(Task task, Request& request, const CallOrigin& origin) {
  GenerationRequest out;
  out.task = task;
  out.origin = origin;
  out.model = std::move(*request.mutable_model());
  out.request_id = std::move(*request.mutable_request_id());
  out.truncation = request.truncation();
  out.languages = {.source = std::move(*request.mutable_source_language()),
                   .target = std::move(*request.mutable_target_language())};
  return out;
}

// What those that generate have.
template <typename Request>
GenerationRequest Generation(Task task, Request& request, const CallOrigin& origin) {
  GenerationRequest out = Common(task, request, origin);
  out.parameters = std::move(*request.mutable_parameters());
  if (request.has_prefix_text()) out.answer_prefix = std::move(*request.mutable_prefix_text());
  if (request.has_prefix_token_ids()) out.answer_prefix = Ids(request.prefix_token_ids());
  out.token_logprobs = request.token_logprobs();
  out.top_logprobs = request.top_logprobs();
  out.on_deadline = request.on_deadline();
  return out;
}

template <typename Request>
void TakeSalience(const Request& request, GenerationRequest* out) {
  for (const v1::Span& span : request.salient_spans()) {
    out->salient_spans.push_back({.begin = span.begin(), .end = span.end()});
  }
  if (request.has_salience_strength()) out->salience_strength = request.salience_strength();
}

}  // namespace

GenerationRequest ToGenerationRequest(v1::SummarizeRequest request, const CallOrigin& origin) {
  GenerationRequest out = Generation(Task::kSummarize, request, origin);
  out.input = std::move(*request.mutable_document());
  TakeSalience(request, &out);
  if (request.has_chunk()) out.chunk = request.chunk();
  return out;
}

GenerationRequest ToGenerationRequest(v1::GenerateRequest request, const CallOrigin& origin) {
  GenerationRequest out = Generation(Task::kGenerate, request, origin);
  out.input = Input(request);
  TakeSalience(request, &out);
  return out;
}

GenerationRequest ToGenerationRequest(v1::GenerateQuestionsRequest request, const CallOrigin& origin) {
  GenerationRequest out = Generation(Task::kQuestions, request, origin);
  out.input = std::move(*request.mutable_context());
  if (request.has_chunk()) out.chunk = request.chunk();
  for (v1::Answer& answer : *request.mutable_answers()) {
    GenerationRequest::AskedAnswer& asked = out.answers.emplace_back();
    asked.text = std::move(*answer.mutable_text());
    if (answer.has_span()) asked.span = {.begin = answer.span().begin(), .end = answer.span().end()};
  }
  return out;
}

GenerationRequest ToGenerationRequest(v1::ScoreRequest request, const CallOrigin& origin) {
  GenerationRequest out = Common(Task::kScore, request, origin);
  out.input = Input(request);
  for (v1::ScoreRequest::Target& target : *request.mutable_targets()) out.targets.push_back(Input(target));
  return out;
}

}  // namespace elserve
