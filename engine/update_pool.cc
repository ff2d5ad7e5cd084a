#include "engine/update_pool.h"

#include <utility>

namespace elserve {

UpdatePool::UpdatePool(const ModelInfo& info) {
  const size_t most = info.capacity.rows;
  // Of a step: at most those that its plan ends, and those in flight after that. The answers of either are no more than
  // the rows.
  const auto longest = static_cast<size_t>(info.max_decoder_tokens);
  spare_updates_.resize(2 * most);
  for (SequenceUpdate& update : spare_updates_) {
    update.tokens.reserve(longest);
    update.hypotheses.reserve(kMaxBeams);
  }
  spare_hypotheses_.resize(2 * most);
  for (Hypothesis& hypothesis : spare_hypotheses_) {
    hypothesis.tokens.reserve(longest);
    hypothesis.logprobs.reserve(longest);
  }
}

void UpdatePool::Begin(StepResult* result) {
  for (SequenceUpdate& update : result->updates) {
    for (Hypothesis& hypothesis : update.hypotheses) {
      hypothesis.alternatives = std::vector<TokenLogprob>();  // few need any: they keep no memory
      if (spare_hypotheses_.size() < spare_hypotheses_.capacity()) spare_hypotheses_.push_back(std::move(hypothesis));
    }
    update.hypotheses.clear();
    if (spare_updates_.size() < spare_updates_.capacity()) spare_updates_.push_back(std::move(update));
  }
  result->updates.clear();
  result->rows = result->documents = result->encoded_tokens = 0;
  result->times = {};
  result_ = result;
  ++step_;
}

SequenceUpdate& UpdatePool::Of(Sequence& sequence) {
  if (sequence.update_step == step_) return result_->updates[sequence.update_index];
  sequence.update_step = step_;
  sequence.update_index = result_->updates.size();
  if (spare_updates_.empty()) {
    result_->updates.emplace_back();
  } else {
    result_->updates.push_back(std::move(spare_updates_.back()));
    spare_updates_.pop_back();
  }
  SequenceUpdate& update = result_->updates.back();
  update.id = sequence.id;
  update.status = absl::OkStatus();
  update.encoded = update.finished = false;
  update.decoded_rows = 0;
  update.tokens.clear();
  return update;
}

}  // namespace elserve
