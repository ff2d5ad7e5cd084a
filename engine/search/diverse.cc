#include "engine/search/diverse.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace elserve {
namespace {

// transformers' sum of a beam that does not exist yet. Sums below the second are such beams'.
constexpr float kDeadSum = -1e9f;
constexpr float kLeastLiveSum = -5e8f;

}  // namespace

void DiverseBeamSearch::Begin() {
  const int size = group_size();
  groups_.resize(static_cast<size_t>(spec_.num_beam_groups));
  for (Group& group : groups_) {
    group.done = false;
    group.beams.clear();
    for (int beam = 0; beam < size; ++beam) group.beams.push_back({0, beam == 0 ? 0.0f : kDeadSum});
    group.finished.Reserve(size, spec_.max_length, prefix_length());
  }
  next_.Reserve(spec_.num_beams, spec_.max_length, prefix_length());
}

// All of it is Python's float64.
float DiverseBeamSearch::ScoreOf(float sum, int new_tokens) const {
  return static_cast<float>(sum / std::pow(static_cast<double>(new_tokens), static_cast<double>(spec_.length_penalty)));
}

void DiverseBeamSearch::CountChosen(int32_t token) {
  const auto known = std::find_if(chosen_.begin(), chosen_.end(),
                                  [token](const LogitEdit& edit) { return edit.token == token; });
  if (known == chosen_.end()) {
    chosen_.push_back({.token = token, .add = -spec_.diversity_penalty});
  } else {
    known->add -= spec_.diversity_penalty;
  }
}

bool DiverseBeamSearch::Collect(const Group& group, std::span<const DecodedRow> rows, RowWorkspace& workspace) {
  continuations_.clear();
  RowValues& values = workspace.values;
  for (int beam = 0; beam < static_cast<int>(group.beams.size()); ++beam) {
    const auto row = static_cast<size_t>(group.beams[static_cast<size_t>(beam)].row);
    if (!values.Set(rows[row].logits, *rows[row].rules, chosen_)) return false;
    if (rows[row].rules->renormalize) values.Renormalize();
    values.Best(rows[row].rules->count, &ranked_);
    const float eos_logprob = spec_.eos_token_id.empty() ? 0 : values.LogProb(spec_.eos_token_id.front());
    for (const Candidate& candidate : ranked_) {
      const float sum = group.beams[static_cast<size_t>(beam)].sum + candidate.value;
      continuations_.push_back({sum, beam, candidate, eos_logprob});
    }
  }
  // Candidates stand in the order of their values: the earlier beam, then the better candidate, where sums are equal.
  std::stable_sort(continuations_.begin(), continuations_.end(),
                   [](const Continuation& a, const Continuation& b) { return a.sum > b.sum; });
  return true;
}

int DiverseBeamSearch::NextRow(int parent, const Candidate& candidate) {
  const int count = static_cast<int>(next_parents_.size());
  for (int row = 0; row < count; ++row) {
    const bool same = next_.tokens(row, length_ + 1).back() == candidate.token;
    if (same && next_parents_[static_cast<size_t>(row)] == parent) return row;
  }
  next_parents_.push_back(parent);
  next_.Extend(count, live_, parent, length_, candidate.token, candidate.logprob);
  return count;
}

// BeamHypotheses.is_done.
bool DiverseBeamSearch::CannotImprove(const Group& group) const {
  if (!group.finished.full()) return false;
  if (spec_.early_stopping == EarlyStopping::kTrue) return true;
  const bool longest = spec_.early_stopping == EarlyStopping::kNever && spec_.length_penalty > 0.0f;
  const int new_tokens = (longest ? spec_.max_length : length_ + 1) - prefix_length();
  return group.finished.score(group.finished.size() - 1) >= ScoreOf(continuations_.front().sum, new_tokens);
}

// BeamSearchScorer.process: an EOS among the best finishes a hypothesis, what is none goes on, until there are beams enough.
void DiverseBeamSearch::Choose(Group& group) {
  const int size = group_size(), new_tokens = length_ + 1 - prefix_length();
  const bool last = length_ + 1 >= spec_.max_length;
  next_beams_.clear();
  for (int rank = 0; rank < static_cast<int>(continuations_.size()); ++rank) {
    if (static_cast<int>(next_beams_.size()) == size) break;
    const Continuation& next = continuations_[static_cast<size_t>(rank)];
    const int parent = group.beams[static_cast<size_t>(next.beam)].row;
    if (!IsEos(next.candidate.token)) {
      CountChosen(next.candidate.token);
      next_beams_.push_back({NextRow(parent, next.candidate), next.sum});
    } else if (rank < size) {
      group.finished.Add(live_, {parent, length_, spec_.eos_token_id.front(), next.eos_logprob,
                                 ScoreOf(next.sum, new_tokens), FinishReason::kEos});
    }
  }
  group.done = CannotImprove(group);
  // finalize: beams that are still open come as they are.
  for (const Beam& beam : next_beams_) {
    if (!last || group.done) break;
    const int parent = next_parents_[static_cast<size_t>(beam.row)];
    const int32_t token = next_.tokens(beam.row, length_ + 1).back();
    group.finished.Add(live_, {parent, length_, token, next_.logprobs(beam.row, length_ + 1).back(),
                               ScoreOf(beam.sum, new_tokens), FinishReason::kLength});
  }
  std::swap(group.beams, next_beams_);
}

void DiverseBeamSearch::Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) {
  chosen_.clear();
  next_parents_.clear();
  const int32_t pad = spec_.pad_token_id >= 0 || spec_.eos_token_id.empty() ? spec_.pad_token_id : spec_.eos_token_id.front();
  done_ = true;
  for (Group& group : groups_) {
    if (group.done) {
      for (int beam = 0; beam < group_size(); ++beam) CountChosen(pad);
      continue;
    }
    if (!Collect(group, rows, workspace)) {
      done_ = failed_ = true;
      return;
    }
    Choose(group);
    done_ = done_ && (group.done || group.beams.empty());
  }
  std::swap(parents_, next_parents_);
  std::swap(live_, next_);
  ++length_;
  done_ = done_ || length_ >= spec_.max_length;
}

std::span<const int32_t> DiverseBeamSearch::StablePrefix(int known) const {
  const FinishedPool* best = nullptr;
  for (const Group& group : groups_) {
    if (!done_ || group.finished.size() == 0) continue;
    if (best == nullptr || group.finished.score(0) >= best->score(0)) best = &group.finished;
  }
  if (best == nullptr) return {};
  const std::span<const int32_t> tokens = best->tokens(0);
  return tokens.subspan(std::min(static_cast<size_t>(prefix_length() + known), tokens.size()));
}

void DiverseBeamSearch::Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare) const {
  std::array<Answer, size_t{2} * kMaxBeams> answers;
  size_t count = 0;
  const auto add = [&](const Answer& answer) {
    // Of equal scores that of the later group is better.
    size_t place = count++;
    for (; place > 0 && answer.score > answers[place - 1].score; --place) answers[place] = answers[place - 1];
    answers[place] = answer;
  };
  for (auto group = groups_.rbegin(); group != groups_.rend(); ++group) {
    const FinishedPool& finished = group->finished;
    for (int rank = 0; rank < finished.size(); ++rank) {
      add({finished.tokens(rank), finished.logprobs(rank), finished.score(rank), finished.reason(rank),
           finished.parent_slot(rank)});
    }
    // Ended early: live beams come as far as they are.
    for (const Beam& beam : group->beams) {
      if (done_ || group->done || length_ == prefix_length() || beam.sum < kLeastLiveSum) continue;
      add({tokens(beam.row), live_.logprobs(beam.row, length_), ScoreOf(beam.sum, length_ - prefix_length()),
           FinishReason::kLength, parents_[static_cast<size_t>(beam.row)]});
    }
  }
  Write(std::span(answers).first(count), hypotheses, spare);
}

}  // namespace elserve
