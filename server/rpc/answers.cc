#include "server/rpc/answers.h"

#include <utility>
#include <variant>

namespace elserve {
namespace {

// Both responses have these under the same names.
template <typename Response>
void FillCommon(CallAnswer& answer, Response* response) {
  *response->mutable_parameters() = std::move(answer.effective);
  response->set_model(std::move(answer.model));
  response->set_request_id(std::move(answer.request_id));
}

// `owner`: whatever holds repeated hypotheses and a usage.
template <typename Owner>
void FillOutput(CallOutput& output, Owner* owner) {
  for (v1::Hypothesis& hypothesis : output.hypotheses) *owner->add_hypotheses() = std::move(hypothesis);
  if (output.usage) *owner->mutable_usage() = *std::move(output.usage);
}

void FillParts(std::vector<v1::Part>& parts, google::protobuf::RepeatedPtrField<v1::Part>* out) {
  for (v1::Part& part : parts) out->Add(std::move(part));
}

template <typename Chunk>
void FillEvent(CallEvent& event, Chunk* chunk) {
  if (auto* const part = std::get_if<v1::Part>(&event)) {
    *chunk->mutable_part() = std::move(*part);
    return;
  }
  auto& delta = std::get<CallDelta>(event);
  chunk->mutable_delta()->set_text(std::move(delta.text));
  chunk->mutable_delta()->mutable_token_ids()->Add(delta.tokens.begin(), delta.tokens.end());
}

}  // namespace

void FillResponse(CallAnswer answer, v1::GenerateResponse* response) {
  FillOutput(answer.outputs.front(), response);
  FillParts(answer.parts, response->mutable_parts());
  if (answer.salience) *response->mutable_salience() = *std::move(answer.salience);
  FillCommon(answer, response);
}

void FillResponse(CallAnswer answer, v1::GenerateQuestionsResponse* response) {
  for (size_t i = 0; i < answer.outputs.size(); ++i) {
    v1::Question* question = response->add_questions();
    if (!answer.answers[i].text().empty()) *question->mutable_answer() = std::move(answer.answers[i]);
    FillOutput(answer.outputs[i], question);
  }
  FillParts(answer.parts, response->mutable_parts());
  FillCommon(answer, response);
}

void FillResponse(CallAnswer answer, v1::ScoreResponse* response) {
  for (CallOutput& output : answer.outputs) {
    v1::Hypothesis& target = output.hypotheses.front();
    v1::TargetScore* score = response->add_scores();
    score->set_sum(target.score());
    score->set_mean(target.score() / static_cast<float>(target.token_ids_size()));
    *score->mutable_token_ids() = std::move(*target.mutable_token_ids());
    *score->mutable_token_logprobs() = std::move(*target.mutable_token_logprobs());
  }
  response->set_source_tokens(answer.outputs.front().usage->source_tokens());
  response->set_truncated(answer.outputs.front().usage->truncated());
  response->set_model(std::move(answer.model));
  response->set_request_id(std::move(answer.request_id));
}

void FillChunk(CallEvent event, v1::GenerateChunk* chunk) { FillEvent(event, chunk); }

void FillChunk(CallEvent event, v1::GenerateQuestionsChunk* chunk) {
  if (const auto* const delta = std::get_if<CallDelta>(&event)) chunk->set_answer_index(delta->output);
  FillEvent(event, chunk);
}

}  // namespace elserve
