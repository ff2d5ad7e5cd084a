#include "engine/search/diverse.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace elserve {

void DiverseBeamSearch::Begin() {
  const int size = group_size();
  if (groups_.size() < static_cast<size_t>(spec_.num_beam_groups)) groups_.resize(kMaxBeams / 2);
  for (Group& group : groups()) {
    group.done = false;
    group.beams.clear();
    group.beams.reserve(kMaxBeams);
    for (int beam = 0; beam < size; ++beam) group.beams.push_back({0, beam == 0 ? 0.0f : kDeadSum});
    group.endings.clear();
    group.endings.reserve(kMaxBeams);
    group.finished.Reserve(size, spec_.max_length, prefix_length());
  }
  next_.Reserve(spec_.num_beams, spec_.max_length, prefix_length());
  next_parents_.reserve(kMaxBeams);
  next_beams_.reserve(kMaxBeams);
  open_.reserve(kMaxBeams);
  chosen_.reserve(kMaxBeams);
  continuations_.reserve(size_t{kMaxBeams} * kMaxCandidates);
}

double DiverseBeamSearch::ScoreOf(float sum, int new_tokens) const {
  return sum / std::pow(static_cast<double>(new_tokens), static_cast<double>(spec_.length_penalty));
}

// BeamHypotheses.add: of equally bad ones the first has to go.
void DiverseBeamSearch::End(Group& group, int parent, const TokenLogprob& last, float sum, FinishReason reason) {
  std::vector<Ending>& endings = group.endings;
  Ending ending{.score = ScoreOf(sum, length_ + 1 - prefix_length()),
                .slot = static_cast<int>(endings.size()),
                .length = length_ + 1,
                .parent = parent,
                .reason = reason};
  const auto worse = [](const Ending& a, const Ending& b) { return a.score < b.score; };
  if (static_cast<int>(endings.size()) == group_size()) {
    if (!(ending.score > group.worst)) return;
    const auto worst = std::min_element(endings.begin(), endings.end(), worse);
    ending.slot = worst->slot;
    endings.erase(worst);
  }
  endings.push_back(ending);
  group.worst = std::min_element(endings.begin(), endings.end(), worse)->score;
  group.finished.Extend(ending.slot, live_, parent, length_, last.token, last.logprob);
}

void DiverseBeamSearch::CountChosen(int32_t token) {
  const auto known =
      std::find_if(chosen_.begin(), chosen_.end(), [token](const LogitEdit& edit) { return edit.token == token; });
  if (known == chosen_.end()) {
    chosen_.push_back({.token = token, .add = -spec_.diversity_penalty});
  } else {
    known->add -= spec_.diversity_penalty;
  }
}

bool DiverseBeamSearch::Collect(const Group& group, std::span<const DecodedRow> rows, RowWorkspace& workspace) {
  continuations_.clear();
  RowValues& values = workspace.values;
  int ranked = -1;  // the row that workspace.best is of: neighbours mostly share one where they are dead
  for (int beam = 0; beam < static_cast<int>(group.beams.size()); ++beam) {
    if (const int number = group.beams[static_cast<size_t>(beam)].row; number != ranked) {
      ranked = number;
      const DecodedRow& row = rows[static_cast<size_t>(number)];
      if (!values.Set(row.logits, *row.rules, chosen_)) return false;
      if (row.rules->renormalize) values.Renormalize();
      values.Best(row.rules->count, &workspace.best);
    }
    const float eos_logprob = spec_.eos_token_id.empty() ? 0 : values.LogProb(spec_.eos_token_id.front());
    for (int rank = 0; rank < static_cast<int>(workspace.best.size()); ++rank) {
      const Candidate& candidate = workspace.best[static_cast<size_t>(rank)];
      const float sum = group.beams[static_cast<size_t>(beam)].sum + candidate.value;
      continuations_.push_back({sum, beam, rank, candidate, eos_logprob});
    }
  }
  // A total order: the earlier beam, then the better candidate, where sums are equal.
  std::sort(continuations_.begin(), continuations_.end(), [](const Continuation& a, const Continuation& b) {
    if (a.sum != b.sum) return a.sum > b.sum;
    return a.beam != b.beam ? a.beam < b.beam : a.rank < b.rank;
  });
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
  if (static_cast<int>(group.endings.size()) < group_size()) return false;
  if (spec_.early_stopping == EarlyStopping::kTrue) return true;
  const bool longest = spec_.early_stopping == EarlyStopping::kNever && spec_.length_penalty > 0.0f;
  const int new_tokens = (longest ? spec_.max_length : length_ + 1) - prefix_length();
  return group.worst >= ScoreOf(continuations_.front().sum, new_tokens);
}

// BeamSearchScorer.process: an EOS among the best finishes a hypothesis, what is none goes on, until there are beams
// enough.
void DiverseBeamSearch::Choose(Group& group) {
  const int size = group_size();
  open_.clear();
  for (int rank = 0; rank < static_cast<int>(continuations_.size()); ++rank) {
    if (static_cast<int>(open_.size()) == size) break;
    const Continuation& next = continuations_[static_cast<size_t>(rank)];
    if (!IsEos(next.candidate.token)) {
      CountChosen(next.candidate.token);
      open_.push_back(rank);
    } else if (rank < size) {
      End(group, RowOf(group, next), {spec_.eos_token_id.front(), next.eos_logprob}, next.sum, FinishReason::kEos);
    }
  }
  group.done = continuations_.empty() || CannotImprove(group);
  next_beams_.clear();
  for (const int rank : open_) {
    if (group.done) break;
    const Continuation& next = continuations_[static_cast<size_t>(rank)];
    const int parent = RowOf(group, next);
    next_beams_.push_back({NextRow(parent, next.candidate), next.sum});
    // finalize: beams that are still open come as they are.
    if (length_ + 1 < spec_.max_length) continue;
    End(group, parent, {next.candidate.token, next.candidate.logprob}, next.sum, FinishReason::kLength);
  }
  std::swap(group.beams, next_beams_);
}

void DiverseBeamSearch::Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) {
  chosen_.clear();
  next_parents_.clear();
  const int32_t pad =
      spec_.pad_token_id >= 0 || spec_.eos_token_id.empty() ? spec_.pad_token_id : spec_.eos_token_id.front();
  done_ = true;
  for (Group& group : groups()) {
    if (group.done) {
      for (int beam = 0; beam < group_size(); ++beam) CountChosen(pad);
      continue;
    }
    if (!Collect(group, rows, workspace)) {
      done_ = failed_ = true;
      return;
    }
    Choose(group);
    done_ = done_ && group.done;
  }
  std::swap(parents_, next_parents_);
  std::swap(live_, next_);
  ++length_;
  done_ = done_ || length_ >= spec_.max_length;
}

std::span<const int32_t> DiverseBeamSearch::StablePrefix(int known) const {
  const Group* best_group = nullptr;
  const Ending* best = nullptr;
  for (const Group& group : groups()) {
    for (const Ending& ending : group.endings) {
      if (!done_ || (best != nullptr && ending.score < best->score)) continue;
      best_group = &group;
      best = &ending;
    }
  }
  if (best == nullptr) return {};
  const std::span<const int32_t> tokens = best_group->finished.tokens(best->slot, best->length);
  return tokens.subspan(std::min(static_cast<size_t>(prefix_length() + known), tokens.size()));
}

void DiverseBeamSearch::Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare) const {
  std::array<Answer, size_t{2} * kMaxBeams> answers;
  std::array<double, size_t{2} * kMaxBeams> scores;
  size_t count = 0;
  // Of equal scores that of the later group, and in a group the later one, is better.
  const auto add = [&](double score, Answer answer) {
    answer.score = static_cast<float>(score);
    size_t place = count++;
    for (; place > 0 && score >= scores[place - 1]; --place) {
      answers[place] = answers[place - 1];
      scores[place] = scores[place - 1];
    }
    answers[place] = answer;
    scores[place] = score;
  };
  for (const Group& group : groups()) {
    for (const Ending& ending : group.endings) {
      add(ending.score, {.tokens = group.finished.tokens(ending.slot, ending.length),
                         .logprobs = group.finished.logprobs(ending.slot, ending.length),
                         .reason = ending.reason,
                         .parent = ending.parent});
    }
    // Ended early: live beams come as far as they are.
    for (const RunningBeam& beam : group.beams) {
      if (done_ || group.done || length_ == prefix_length() || beam.sum < kLeastLiveSum) continue;
      add(ScoreOf(beam.sum, length_ - prefix_length()), {.tokens = tokens(beam.row),
                                                         .logprobs = live_.logprobs(beam.row, length_),
                                                         .parent = parents_[static_cast<size_t>(beam.row)]});
    }
  }
  Write(std::span(answers).first(count), hypotheses, spare);
}

}  // namespace elserve
