#include "server/rpc/answers.h"

#include <utility>

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
  *owner->mutable_usage() = std::move(output.usage);
}

void Fill(CallDelta& delta, v1::Delta* out) {
  out->set_text(std::move(delta.text));
  out->mutable_token_ids()->Add(delta.tokens.begin(), delta.tokens.end());
}

}  // namespace

void FillResponse(CallAnswer answer, v1::GenerateResponse* response) {
  FillOutput(answer.outputs.front(), response);
  FillCommon(answer, response);
}

void FillResponse(CallAnswer answer, v1::GenerateQuestionsResponse* response) {
  for (size_t i = 0; i < answer.outputs.size(); ++i) {
    v1::Question* question = response->add_questions();
    *question->mutable_answer() = std::move(answer.answers[i]);
    FillOutput(answer.outputs[i], question);
  }
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
  response->set_source_tokens(answer.outputs.front().usage.source_tokens());
  response->set_truncated(answer.outputs.front().usage.truncated());
  response->set_model(std::move(answer.model));
  response->set_request_id(std::move(answer.request_id));
}

void FillDelta(CallDelta delta, v1::GenerateChunk* chunk) { Fill(delta, chunk->mutable_delta()); }

void FillDelta(CallDelta delta, v1::GenerateQuestionsChunk* chunk) {
  chunk->set_answer_index(delta.output);
  Fill(delta, chunk->mutable_delta());
}

}  // namespace elserve
