#include "engine/search/beam.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "engine/search/rules.h"

namespace elserve {
namespace {

// transformers' sum of a beam that does not exist yet, the score of an empty place in the pool, and what is taken from
// a sum that must not be chosen.
constexpr float kDeadSum = -1e9f;
// Sums below it are dead beams': no real sum of log-probabilities comes near.
constexpr float kLeastLiveSum = -5e8f;

}  // namespace

void BeamState::Start(const DecodingSpec& spec) {
  spec_ = spec;
  length_ = 1;
  done_ = false;
  greedy_reason_ = FinishReason::kLength;
  const int n = spec_.num_beams;
  beams_.clear();
  parents_.clear();
  next_beams_.clear();
  // Room for the most beams and ids: what a second Start takes depends on the spec for tokens and bad words
  // alone.
  spec_.eos_token_id.reserve(kMaxEosIds);
  spec_.forced_eos_token_id.reserve(kMaxEosIds);
  beams_.reserve(kMaxBeams);
  parents_.reserve(kMaxBeams);
  live_.Reserve(n, spec_.max_length);
  if (!greedy()) {
    constexpr size_t kContinuations = size_t{kMaxBeams} * kMaxCandidates;
    next_beams_.reserve(kMaxBeams);
    next_.Reserve(n, spec_.max_length);
    continuations_.reserve(kContinuations);
    order_.reserve(kContinuations);
    finished_.Reserve(n, spec_.max_length);
  }
  for (int beam = 0; beam < n; ++beam) beams_.push_back({0, beam == 0 ? 0.0f : kDeadSum});
  parents_.push_back(0);
  live_.tokens(0, 1)[0] = spec_.decoder_start_token_id;
}

bool BeamState::IsEos(int32_t token) const {
  return std::find(spec_.eos_token_id.begin(), spec_.eos_token_id.end(), token) != spec_.eos_token_id.end();
}

// Python raises to the power in float64; torch divides by it in float32.
float BeamState::LengthDivisor(int new_tokens) const {
  return static_cast<float>(std::pow(static_cast<double>(new_tokens), static_cast<double>(spec_.length_penalty)));
}

void BeamState::AdvanceGreedy(std::span<const Candidate> candidates) {
  if (candidates.empty()) {
    done_ = true;
    return;
  }
  const Candidate& best = candidates.front();
  live_.Append(0, length_, best.token, best.logprob);
  beams_[0].sum += best.logprob;
  ++length_;
  if (IsEos(best.token)) greedy_reason_ = FinishReason::kEos;
  done_ = greedy_reason_ == FinishReason::kEos || length_ >= spec_.max_length;
}

// The best max(2, 1 + number of EOS ids) * num_beams continuations (_get_top_k_continuations). Those that transformers
// would see and a row's candidates lack can be neither among the best num_beams nor among the best num_beams that do
// not hit: each row brings num_beams that do not, and all that hit above them.
void BeamState::CollectContinuations(std::span<const std::span<const Candidate>> candidates_per_row) {
  const bool last = length_ + 1 >= spec_.max_length;
  const size_t wanted_per_row = static_cast<size_t>(CandidatesPerRow(spec_));
  continuations_.clear();
  for (int beam = 0; beam < static_cast<int>(beams_.size()); ++beam) {
    std::span<const Candidate> candidates = candidates_per_row[beams_[beam].row];
    candidates = candidates.first(std::min(candidates.size(), wanted_per_row));
    for (int rank = 0; rank < static_cast<int>(candidates.size()); ++rank) {
      const float sum = beams_[beam].sum + candidates[rank].value;
      const bool hits = last || IsEos(candidates[rank].token);
      continuations_.push_back({sum, hits ? sum + kDeadSum : sum, beam, rank, hits});
    }
  }
  const size_t eos_ids = spec_.eos_token_id.size();
  const size_t kept = std::min(continuations_.size(), std::max<size_t>(2, 1 + eos_ids) * beams_.size());
  // A total order, so that equal sums give the same answer everywhere: the earlier beam, then the better candidate.
  std::partial_sort(continuations_.begin(), continuations_.begin() + static_cast<std::ptrdiff_t>(kept),
                    continuations_.end(), [](const Continuation& a, const Continuation& b) {
                      if (a.sum != b.sum) return a.sum > b.sum;
                      return a.beam != b.beam ? a.beam < b.beam : a.rank < b.rank;
                    });
  continuations_.erase(continuations_.begin() + static_cast<std::ptrdiff_t>(kept), continuations_.end());
}

// Only what hits among the best num_beams is kept (_update_finished_beams); an EOS that ranks below is lost.
void BeamState::AddFinished(std::span<const std::span<const Candidate>> candidates_per_row) {
  const float divisor = LengthDivisor(length_);
  const size_t considered = std::min(continuations_.size(), beams_.size());
  for (size_t i = 0; i < considered; ++i) {
    const Continuation& continuation = continuations_[i];
    if (!continuation.hits) continue;
    const int row = beams_[continuation.beam].row;
    const Candidate& candidate = candidates_per_row[row][continuation.rank];
    const float score = continuation.sum / divisor;
    if (score < kDeadSum) continue;  // worse than an empty place
    finished_.Add(live_, {row, length_, candidate.token, candidate.logprob, score,
                          IsEos(candidate.token) ? FinishReason::kEos : FinishReason::kLength});
  }
}

// The next beams are the best num_beams by sum, those that hit 1e9 lower (_get_running_beams_for_next_iteration). Beams
// with the same tokens get one row.
void BeamState::NextBeams(std::span<const std::span<const Candidate>> candidates_per_row) {
  order_.clear();
  for (int i = 0; i < static_cast<int>(continuations_.size()); ++i) order_.push_back(i);
  const size_t count = std::min(order_.size(), beams_.size());
  std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(count), order_.end(),
                    [this](int a, int b) {
                      const float x = continuations_[a].running, y = continuations_[b].running;
                      return x != y ? x > y : a < b;
                    });
  parents_.clear();
  next_beams_.clear();
  for (size_t i = 0; i < count; ++i) {
    const Continuation& continuation = continuations_[order_[i]];
    const int parent = beams_[continuation.beam].row;
    const Candidate& candidate = candidates_per_row[parent][continuation.rank];
    int row = 0;
    while (row < rows() && (parents_[row] != parent || next_.tokens(row, length_ + 1).back() != candidate.token)) ++row;
    if (row == rows()) {
      parents_.push_back(parent);
      next_.Extend(row, live_, parent, length_, candidate.token, candidate.logprob);
    }
    next_beams_.push_back({row, continuation.running});
  }
  std::swap(beams_, next_beams_);
  std::swap(live_, next_);
  ++length_;
}

// Whether a live beam may still enter the pool (_check_early_stop_heuristic), and with early_stopping whether the pool
// still lacks hypotheses (_beam_search_has_unfinished_sequences).
bool BeamState::CanImprove() const {
  if (spec_.early_stopping == EarlyStopping::kTrue && finished_.full()) return false;
  const bool longest = spec_.early_stopping == EarlyStopping::kNever && spec_.length_penalty > 0.0f;
  const float best_possible = beams_[0].sum / LengthDivisor((longest ? spec_.max_length : length_) - 1);
  const float worst = finished_.full() ? finished_.score(finished_.size() - 1) : kDeadSum;
  return best_possible > worst;
}

void AdvanceBeams(BeamState& state, std::span<const std::span<const Candidate>> candidates_per_row) {
  if (state.greedy()) {
    state.AdvanceGreedy(candidates_per_row[0]);
    return;
  }
  state.CollectContinuations(candidates_per_row);
  if (state.continuations_.empty()) {
    state.done_ = true;
    return;
  }
  const bool all_hit = std::all_of(state.continuations_.begin(), state.continuations_.end(),
                                   [](const BeamState::Continuation& continuation) { return continuation.hits; });
  state.AddFinished(candidates_per_row);
  state.NextBeams(candidates_per_row);
  state.done_ = all_hit || !state.CanImprove();
}

std::span<const int32_t> StablePrefix(const BeamState& state, int known) {
  const size_t from = static_cast<size_t>(known) + 1;  // the start token stands before
  const FinishedPool& finished = state.finished_;
  const bool any_finished = !state.greedy() && finished.size() > 0;
  std::span<const int32_t> shared = any_finished ? finished.tokens(0) : state.tokens(state.beams_[0].row);
  // The final answer is the best finished one, or it continues a live row.
  for (int row = 0; row < state.rows() && !state.done(); ++row) {
    const std::span<const int32_t> tokens = state.tokens(row);
    size_t end = std::min(from, shared.size());
    while (end < shared.size() && end < tokens.size() && tokens[end] == shared[end]) ++end;
    shared = shared.first(end);
  }
  return shared.subspan(std::min(from, shared.size()));
}

namespace {

struct Answer {
  std::span<const int32_t> tokens;  // the start token included
  std::span<const float> logprobs;
  float score;
  FinishReason reason;
};

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

void Finalize(const BeamState& state, std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare) {
  std::array<Answer, size_t{2} * kMaxBeams> answers;
  size_t count = 0;
  const FinishedPool& finished = state.finished_;
  if (!state.greedy()) {
    for (int rank = 0; rank < finished.size(); ++rank) {
      answers[count++] = {finished.tokens(rank), finished.logprobs(rank), finished.score(rank), finished.reason(rank)};
    }
  }
  const bool early = !state.greedy() && !state.done();
  const int length = state.length();
  const float divisor = state.greedy() || length == 1 ? 1.0f : state.LengthDivisor(length - 1);
  int rows_taken = 0;  // rows stand in the order of their best beams
  for (const BeamState::Beam& beam : state.beams_) {
    if (length == 1) break;
    // A sequence that ended by itself has its answers in the pool; live rows only fill what is missing. One that is
    // ended takes each row once and no dead beam, but at least one answer.
    if (early && (beam.row < rows_taken || (beam.sum < kLeastLiveSum && count > 0))) continue;
    rows_taken = beam.row + 1;
    const std::span<const int32_t> tokens = state.tokens(beam.row);
    const bool eos = state.greedy() ? state.greedy_reason_ == FinishReason::kEos : state.IsEos(tokens.back());
    answers[count++] = {tokens, state.live_.logprobs(beam.row, length), beam.sum / divisor,
                        eos ? FinishReason::kEos : FinishReason::kLength};
  }
  if (early) {
    // Insertion keeps equal scores in their order and takes no memory.
    for (size_t i = 1; i < count; ++i) {
      for (size_t j = i; j > 0 && answers[j].score > answers[j - 1].score; --j) std::swap(answers[j], answers[j - 1]);
    }
  }
  count = std::min(count, static_cast<size_t>(state.spec().num_return_sequences));
  Resize(hypotheses, count, spare);
  for (size_t i = 0; i < count; ++i) {
    Hypothesis& hypothesis = (*hypotheses)[i];
    hypothesis.tokens.assign(answers[i].tokens.begin() + 1, answers[i].tokens.end());
    hypothesis.logprobs.assign(answers[i].logprobs.begin(), answers[i].logprobs.end());
    hypothesis.score = answers[i].score;
    hypothesis.reason = answers[i].reason;
  }
}

}  // namespace elserve
