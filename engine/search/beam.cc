#include "engine/search/beam.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "engine/search/rules.h"

namespace elserve {

void BeamSearch::Begin() {
  constexpr size_t kContinuations = size_t{kMaxBeams} * kMaxCandidates;
  const int n = spec_.num_beams;
  beams_.clear();
  beams_.reserve(kMaxBeams);
  next_beams_.reserve(kMaxBeams);
  next_.Reserve(n, spec_.max_length, prefix_length());
  continuations_.reserve(kContinuations);
  order_.reserve(kContinuations);
  finished_.Reserve(n, spec_.max_length, prefix_length());
  for (int beam = 0; beam < n; ++beam) beams_.push_back({0, beam == 0 ? 0.0f : kDeadSum});
}

// Python raises to the power in float64; torch divides by it in float32.
float BeamSearch::LengthDivisor(int new_tokens) const {
  return static_cast<float>(std::pow(static_cast<double>(new_tokens), static_cast<double>(spec_.length_penalty)));
}

// The best max(2, 1 + number of EOS ids) * num_beams continuations (_get_top_k_continuations). Those that transformers
// would see and a row's candidates lack can be neither among the best num_beams nor among the best num_beams that do
// not hit: each row brings num_beams that do not, and all that hit above them.
void BeamSearch::CollectContinuations(std::span<const std::span<const Candidate>> candidates_per_row) {
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
void BeamSearch::AddFinished(std::span<const std::span<const Candidate>> candidates_per_row) {
  const float divisor = LengthDivisor(length_ + 1 - prefix_length());
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
void BeamSearch::NextBeams(std::span<const std::span<const Candidate>> candidates_per_row) {
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
bool BeamSearch::CanImprove() const {
  if (spec_.early_stopping == EarlyStopping::kTrue && finished_.full()) return false;
  const bool longest = spec_.early_stopping == EarlyStopping::kNever && spec_.length_penalty > 0.0f;
  const float best_possible = beams_[0].sum / LengthDivisor((longest ? spec_.max_length : length_) - prefix_length());
  const float worst = finished_.full() ? finished_.score(finished_.size() - 1) : kDeadSum;
  return best_possible > worst;
}

void BeamSearch::Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) {
  const auto candidates_per_row = CandidatesOf(rows, workspace);
  if (!failed()) CollectContinuations(candidates_per_row);
  if (failed() || continuations_.empty()) {
    done_ = true;
    return;
  }
  const bool all_hit = std::all_of(continuations_.begin(), continuations_.end(),
                                   [](const Continuation& continuation) { return continuation.hits; });
  AddFinished(candidates_per_row);
  NextBeams(candidates_per_row);
  done_ = all_hit || !CanImprove();
}

std::span<const int32_t> BeamSearch::StablePrefix(int known) const {
  const size_t from = static_cast<size_t>(prefix_length()) + static_cast<size_t>(known);
  std::span<const int32_t> shared = finished_.size() > 0 ? finished_.tokens(0) : tokens(beams_[0].row);
  // The final answer is the best finished one, or it continues a live row.
  for (int row = 0; row < rows() && !done_; ++row) {
    const std::span<const int32_t> live = tokens(row);
    size_t end = std::min(from, shared.size());
    while (end < shared.size() && end < live.size() && live[end] == shared[end]) ++end;
    shared = shared.first(end);
  }
  return shared.subspan(std::min(from, shared.size()));
}

size_t BeamSearch::AddLive(std::span<Answer> answers, size_t count) const {
  if (length_ == prefix_length()) return count;
  const float divisor = LengthDivisor(length_ - prefix_length());
  int rows_taken = 0;  // rows stand in the order of their best beams
  for (const RunningBeam& beam : beams_) {
    // A sequence that ended by itself has its answers in the pool; live rows only fill what is missing. One that is
    // ended takes each row once and no dead beam, but at least one answer.
    if (!done_ && (beam.row < rows_taken || (beam.sum < kLeastLiveSum && count > 0))) continue;
    rows_taken = beam.row + 1;
    answers[count++] = {tokens(beam.row), live_.logprobs(beam.row, length_), beam.sum / divisor,
                        IsEos(last_token(beam.row)) ? FinishReason::kEos : FinishReason::kLength, parents_[beam.row]};
  }
  return count;
}

void BeamSearch::Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare) const {
  std::array<Answer, size_t{2} * kMaxBeams> answers;
  size_t count = 0;
  for (int rank = 0; rank < finished_.size(); ++rank) {
    answers[count++] = {finished_.tokens(rank), finished_.logprobs(rank), finished_.score(rank), finished_.reason(rank),
                        finished_.parent_slot(rank)};
  }
  count = AddLive(answers, count);
  if (!done_) {
    // Insertion keeps equal scores in their order and takes no memory.
    for (size_t i = 1; i < count; ++i) {
      for (size_t j = i; j > 0 && answers[j].score > answers[j - 1].score; --j) std::swap(answers[j], answers[j - 1]);
    }
  }
  Write(std::span(answers).first(count), hypotheses, spare);
}

}  // namespace elserve
