#include "tests/engine/search/reference_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

namespace elserve {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool Contains(const std::vector<int32_t>& list, int32_t token) {
  return std::find(list.begin(), list.end(), token) != list.end();
}

// The logits processors, each over the whole row, in transformers' order.
std::vector<float> Process(const DecodingSpec& spec, const std::vector<int32_t>& ids, std::vector<float> scores) {
  const int length = static_cast<int>(ids.size());
  const int n = spec.no_repeat_ngram_size;
  if (n > 0 && length >= n) {
    std::map<std::vector<int32_t>, std::vector<int32_t>> seen;
    for (int i = 0; i + n <= length; ++i) {
      seen[{ids.begin() + i, ids.begin() + i + n - 1}].push_back(ids[i + n - 1]);
    }
    for (int32_t token : seen[{ids.end() - (n - 1), ids.end()}]) scores[token] = -kInfinity;
  }
  for (size_t token = 0; token < scores.size(); ++token) {
    const bool eos = Contains(spec.eos_token_id, static_cast<int32_t>(token));
    if (eos && length < spec.min_length) scores[token] = -kInfinity;
    if (eos && length - static_cast<int>(spec.prefix.size()) < spec.min_new_tokens) scores[token] = -kInfinity;
  }
  if (spec.forced_bos_token_id >= 0 && length == 1) {
    std::fill(scores.begin(), scores.end(), -kInfinity);
    scores[spec.forced_bos_token_id] = 0;
  }
  if (!spec.forced_eos_token_id.empty() && length == spec.max_length - 1) {
    std::fill(scores.begin(), scores.end(), -kInfinity);
    for (int32_t token : spec.forced_eos_token_id) scores[token] = 0;
  }
  return scores;
}

ReferenceResult Greedy(const DecodingSpec& spec, const LogitsFunction& logits) {
  ReferenceResult result;
  ReferenceHypothesis row{spec.prefix, 0};
  while (true) {
    const std::vector<float> raw = logits(row.tokens);
    const std::vector<float> scores = Process(spec, row.tokens, raw);
    const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();  // the first of the largest
    row.score += LogSoftmax(raw)[best];
    row.tokens.push_back(static_cast<int32_t>(best));
    ++result.steps;
    result.running.push_back({row});
    if (Contains(spec.eos_token_id, row.tokens.back())) break;
    if (static_cast<int>(row.tokens.size()) >= spec.max_length) break;
  }
  result.hypotheses = {row};
  return result;
}

struct Continuation {
  float sum;
  float own;  // the token's processed log-probability
  size_t beam;
  std::vector<int32_t> tokens;
  bool hits;
};

struct Place {
  float score = -1e9f;
  bool finished = false;
  std::vector<int32_t> tokens;
};

std::vector<Continuation> TopContinuations(const DecodingSpec& spec, const std::vector<ReferenceHypothesis>& running,
                                           const LogitsFunction& logits) {
  std::vector<Continuation> all;
  for (size_t beam = 0; beam < running.size(); ++beam) {
    const std::vector<int32_t>& ids = running[beam].tokens;
    const std::vector<float> scores = Process(spec, ids, LogSoftmax(logits(ids)));
    for (size_t token = 0; token < scores.size(); ++token) {
      Continuation next{scores[token] + running[beam].score, scores[token], beam, ids, false};
      next.tokens.push_back(static_cast<int32_t>(token));
      next.hits =
          Contains(spec.eos_token_id, next.tokens.back()) || static_cast<int>(next.tokens.size()) >= spec.max_length;
      all.push_back(std::move(next));
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Continuation& a, const Continuation& b) {
    if (a.sum != b.sum) return a.sum > b.sum;
    return a.beam != b.beam ? a.beam < b.beam : a.own > b.own;
  });
  const size_t eos_ids = spec.eos_token_id.size();
  all.resize(std::min(all.size(), std::max<size_t>(2, 1 + eos_ids) * running.size()));
  return all;
}

std::vector<ReferenceHypothesis> NextRunning(const std::vector<Continuation>& top, size_t beams) {
  std::vector<ReferenceHypothesis> next;
  for (const Continuation& continuation : top) {
    next.push_back({continuation.tokens, continuation.sum + (continuation.hits ? -1e9f : 0.0f)});
  }
  std::stable_sort(next.begin(), next.end(),
                   [](const ReferenceHypothesis& a, const ReferenceHypothesis& b) { return a.score > b.score; });
  next.resize(std::min(next.size(), beams));
  return next;
}

float Penalty(const DecodingSpec& spec, int length) {
  return static_cast<float>(std::pow(static_cast<double>(length), static_cast<double>(spec.length_penalty)));
}

std::vector<Place> UpdateFinished(const DecodingSpec& spec, std::vector<Place> places,
                                  const std::vector<Continuation>& top, int new_tokens) {
  const size_t beams = places.size();
  for (size_t i = 0; i < top.size(); ++i) {
    const bool finished = top[i].hits && i < beams;
    places.push_back({top[i].sum / Penalty(spec, new_tokens) + (finished ? 0.0f : -1e9f), finished, top[i].tokens});
  }
  std::stable_sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    if (a.score != b.score) return a.score > b.score;
    return a.finished && !b.finished;
  });
  places.resize(beams);
  return places;
}

}  // namespace

std::vector<float> LogSoftmax(const std::vector<float>& logits) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x) - largest);
  std::vector<float> result;
  for (float x : logits) result.push_back(static_cast<float>(static_cast<double>(x) - largest - std::log(sum)));
  return result;
}

std::vector<Candidate> SelectCandidates(const std::vector<float>& logits, const RowRules& rules) {
  const std::vector<float> log_probs = LogSoftmax(logits);
  std::vector<float> values = rules.log_probs ? log_probs : logits;
  if (!rules.force.empty()) {
    std::fill(values.begin(), values.end(), -kInfinity);
    for (int32_t token : rules.force) values[token] = 0;
  }
  for (const LogitEdit& edit : rules.edits) {
    float& x = values[edit.token];
    x += edit.add;
    x = edit.ban || x == -kInfinity ? -kInfinity : x < 0 ? x * edit.negative : x * edit.positive;
  }
  std::vector<Candidate> candidates;
  for (size_t token = 0; token < values.size(); ++token) {
    candidates.push_back({static_cast<int32_t>(token), values[token], log_probs[token]});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.value > b.value; });
  candidates.resize(std::min(candidates.size(), static_cast<size_t>(rules.count)));
  return candidates;
}

ReferenceResult ReferenceSearch(const DecodingSpec& spec, const LogitsFunction& logits) {
  if (spec.num_beams == 1) return Greedy(spec, logits);
  ReferenceResult result;
  const size_t beams = static_cast<size_t>(spec.num_beams);
  std::vector<ReferenceHypothesis> running(beams, {spec.prefix, -1e9f});
  running[0].score = 0;
  std::vector<Place> places(beams);
  const int prefix = static_cast<int>(spec.prefix.size());
  int length = prefix;
  while (true) {
    const std::vector<Continuation> top = TopContinuations(spec, running, logits);
    running = NextRunning(top, beams);
    ++length;
    places = UpdateFinished(spec, places, top, length - prefix);
    ++result.steps;
    result.running.push_back(running);

    const bool longest = spec.early_stopping == EarlyStopping::kNever && spec.length_penalty > 0;
    const float best = running[0].score / Penalty(spec, (longest ? spec.max_length : length) - prefix);
    float least = places[0].score;
    bool full = true, improvement = false, all_hit = true;
    for (const Place& place : places) least = std::min(least, place.score), full = full && place.finished;
    for (const Place& place : places) improvement = improvement || best > (place.finished ? least : -1e9f);
    for (const Continuation& continuation : top) all_hit = all_hit && continuation.hits;
    if (!improvement || (full && spec.early_stopping == EarlyStopping::kTrue) || all_hit) break;
  }
  for (const Place& place : places) {
    if (place.finished) result.hypotheses.push_back({place.tokens, place.score});
  }
  // transformers returns padding for a place that was never filled; elserve the running beams.
  for (const ReferenceHypothesis& beam : running) {
    result.hypotheses.push_back({beam.tokens, beam.score / Penalty(spec, length - prefix)});
  }
  result.hypotheses.resize(static_cast<size_t>(spec.num_return_sequences));
  return result;
}

}  // namespace elserve
