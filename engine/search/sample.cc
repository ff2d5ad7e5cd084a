#include "engine/search/sample.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/search/random.h"

namespace elserve {
namespace {

float LogProbOf(int32_t token, const DecodedRow& row, const RowValues& values) {
  if (!row.logits.empty()) return values.LogProb(token);
  return std::find_if(row.candidates.begin(), row.candidates.end(),
                      [token](const Candidate& candidate) { return candidate.token == token; })
      ->logprob;
}

}  // namespace

void SampleSearch::Begin() {
  const int count = spec_.num_return_sequences;
  hypotheses_.reserve(kMaxBeams);
  hypotheses_.assign(static_cast<size_t>(count), Drawn());
  ended_.Reserve(count, spec_.max_length, prefix_length());
  next_.Reserve(count, spec_.max_length, prefix_length());
  parents_of_next_.reserve(kMaxBeams);
}

void SampleSearch::Append(Drawn& hypothesis, int32_t token, float logprob) {
  const int row = hypothesis.row;
  hypothesis.sum += logprob;
  const auto next = static_cast<int>(parents_of_next_.size());
  next_.Extend(next, live_, row, length_, token, logprob);
  hypothesis.reason = ReasonAt(next_.tokens(next, length_ + 1));
  if (hypothesis.reason != FinishReason::kLength || length_ + 1 >= spec_.max_length) {
    hypothesis.row = static_cast<int>(&hypothesis - hypotheses_.data());
    hypothesis.length = length_ + 1;
    hypothesis.parent = row;
    ended_.Extend(hypothesis.row, live_, row, length_, token, logprob);
    return;
  }
  hypothesis.row = next;
  parents_of_next_.push_back(row);
}

void SampleSearch::Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) {
  const auto step = static_cast<uint32_t>(length_ - prefix_length());
  parents_of_next_.clear();
  // A row's hypotheses stand together.
  int loaded = -1;
  for (Drawn& hypothesis : hypotheses_) {
    if (hypothesis.length > 0) continue;
    const DecodedRow& row = rows[static_cast<size_t>(hypothesis.row)];
    Distribution& distribution = workspace.distribution;
    if (hypothesis.row != loaded) {
      loaded = hypothesis.row;
      if (row.logits.empty()) {
        distribution.Load(row.candidates);
      } else if (workspace.values.Set(row.logits, *row.rules)) {
        distribution.Load(workspace.values.values());
      } else {
        done_ = failed_ = true;
        return;
      }
      distribution.Warp(spec_.sampling);
    }
    const auto number = static_cast<uint32_t>(&hypothesis - hypotheses_.data());
    const int32_t token = distribution.Draw(UniformAt(spec_.sampling.seed, step, number));
    Append(hypothesis, token, LogProbOf(token, row, workspace.values));
  }
  std::swap(parents_, parents_of_next_);
  std::swap(live_, next_);
  ++length_;
  done_ = parents_.empty();
}

std::span<const int32_t> SampleSearch::StablePrefix(int known) const {
  const Drawn& first = hypotheses_.front();
  const std::span<const int32_t> all = first.length > 0 ? ended_.tokens(first.row, first.length) : tokens(first.row);
  return all.subspan(std::min(static_cast<size_t>(prefix_length() + known), all.size()));
}

void SampleSearch::Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare) const {
  std::array<Answer, kMaxBeams> answers;
  size_t count = 0;
  for (const Drawn& drawn : hypotheses_) {
    if (length_ == prefix_length()) break;
    const bool ended = drawn.length > 0;
    const HypothesisSlots& slots = ended ? ended_ : live_;
    const int length = ended ? drawn.length : length_;
    answers[count++] = {slots.tokens(drawn.row, length), slots.logprobs(drawn.row, length), drawn.sum, drawn.reason,
                        ended ? drawn.parent : parents_[static_cast<size_t>(drawn.row)]};
  }
  Write(std::span(answers).first(count), hypotheses, spare);
}

}  // namespace elserve
