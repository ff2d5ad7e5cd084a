#include "engine/search/search_state.h"

#include <algorithm>
#include <utility>

#include "engine/search/rules.h"
#include "engine/search/stop.h"

namespace elserve {
namespace {

// Resizes and keeps the memory that hypotheses have taken before.
void Resize(std::vector<Hypothesis>* hypotheses, size_t count, std::vector<Hypothesis>* spare) {
  while (spare && hypotheses->size() > count && spare->size() < spare->capacity()) {
    spare->push_back(std::move(hypotheses->back()));
    hypotheses->pop_back();
  }
  while (spare && hypotheses->size() < count && !spare->empty()) {
    hypotheses->push_back(std::move(spare->back()));
    spare->pop_back();
  }
  hypotheses->resize(count);
}

}  // namespace

void SearchState::Start(const DecodingSpec& spec, std::span<const int32_t> source) {
  // Room for the most ids and the longest prefix: what a second Start takes depends on the spec for tokens, bad
  // words and biases alone.
  spec_.prefix.reserve(spec.max_length);
  spec_.eos_token_id.reserve(kMaxEosIds);
  spec_.forced_eos_token_id.reserve(kMaxEosIds);
  spec_.suppress_tokens.reserve(kMaxSuppressTokens);
  spec_.begin_suppress_tokens.reserve(kMaxSuppressTokens);
  spec_ = spec;
  source_.clear();
  if (NeedsSource(spec_)) source_.assign(source.begin(), source.end());
  length_ = prefix_length();
  done_ = false;
  failed_ = false;
  candidates_.reserve(kMaxBeams);
  parents_.reserve(kMaxBeams);
  parents_.assign(1, 0);
  live_.Reserve(spec_.most_rows(), spec_.max_length, answer_begin());
  std::copy(spec_.prefix.begin(), spec_.prefix.end(), live_.tokens(0, length_).begin());
  if (spec_.top_logprobs > 0) {
    alternatives_.Reserve(spec_.top_logprobs, spec_.most_rows(), spec_.max_length - prefix_length());
  }
  Begin();
}

bool SearchState::IsEos(int32_t token) const {
  return std::find(spec_.eos_token_id.begin(), spec_.eos_token_id.end(), token) != spec_.eos_token_id.end();
}

FinishReason SearchState::ReasonAt(std::span<const int32_t> tokens) {
  if (IsEos(tokens.back())) return FinishReason::kEos;
  const bool stops = spec_.stop_strings != nullptr && CompletesStopString(*spec_.stop_strings, tokens, &stop_window_);
  return stops ? FinishReason::kStopString : FinishReason::kLength;
}

std::span<const std::span<const Candidate>> SearchState::CandidatesOf(std::span<const DecodedRow> rows,
                                                                      RowWorkspace& workspace) {
  candidates_.clear();
  workspace.candidates.clear();
  for (const DecodedRow& row : rows) {
    if (row.logits.empty()) {
      candidates_.push_back(row.candidates);
      continue;
    }
    if (!workspace.values.Set(row.logits, *row.rules)) {
      done_ = failed_ = true;
      return {};
    }
    if (row.rules->renormalize) workspace.values.Renormalize();
    workspace.values.Best(row.rules->count, &workspace.best);
    // Room for the candidates of all rows, so that no span moves.
    workspace.candidates.reserve(size_t{kMaxBeams} * kMaxCandidates);
    const size_t begin = workspace.candidates.size();
    workspace.candidates.insert(workspace.candidates.end(), workspace.best.begin(), workspace.best.end());
    candidates_.push_back(std::span<const Candidate>(workspace.candidates).subspan(begin));
  }
  return candidates_;
}

void SearchState::Write(std::span<const Answer> answers, std::vector<Hypothesis>* hypotheses,
                        std::vector<Hypothesis>* spare) const {
  const size_t count = std::min(answers.size(), static_cast<size_t>(spec_.num_return_sequences));
  Resize(hypotheses, count, spare);
  for (size_t i = 0; i < count; ++i) {
    Hypothesis& hypothesis = (*hypotheses)[i];
    hypothesis.tokens.assign(answers[i].tokens.begin() + answer_begin(), answers[i].tokens.end());
    hypothesis.logprobs.assign(answers[i].logprobs.begin(), answers[i].logprobs.end());
    hypothesis.score = answers[i].score;
    hypothesis.reason = answers[i].reason;
    hypothesis.alternatives.clear();
    if (spec_.top_logprobs > 0) {
      alternatives_.Collect(answers[i].parent, static_cast<int>(hypothesis.tokens.size()), &hypothesis.alternatives);
    }
  }
}

}  // namespace elserve
