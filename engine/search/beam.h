// Greedy and beam search over the candidates that the device found, exactly as transformers 5.23 (generation/utils.py,
// _sample without do_sample and _beam_search). Host code on numbers alone: it knows no device and no clock.
//
// One step of a sequence: RulesFor() (rules.h) for each of its rows, the device's candidates, AdvanceBeams(); then the
// next rows stand in the state with their parents. After Start() nothing that is called per step allocates.
#ifndef ELSERVE_ENGINE_SEARCH_BEAM_H_
#define ELSERVE_ENGINE_SEARCH_BEAM_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/decoding.h"
#include "engine/search/hypotheses.h"

namespace elserve {

// A sequence in search. A beam is one of transformers' num_beams running hypotheses with its sum; a row is a distinct
// token sequence that the device decodes. At the start all beams (sums 0, -1e9, ...) share one row, and they go on
// sharing it while their tokens are the same (a forced first token): there are at most num_beams rows, and often fewer.
class BeamState {
 public:
  // Begins with one row that holds the decoder start token. Takes all memory that the search needs until its end; a
  // second Start uses it again where it is large enough. The spec is copied; it has to be valid (see DecodingSpec).
  void Start(const DecodingSpec& spec);

  const DecodingSpec& spec() const { return spec_; }
  bool greedy() const { return spec_.num_beams == 1; }
  // Tokens of every live row, the decoder start token included.
  int length() const { return length_; }
  int rows() const { return static_cast<int>(parents_.size()); }
  // The row's tokens, the decoder start token first; valid until the next AdvanceBeams.
  std::span<const int32_t> tokens(int row) const { return live_.tokens(row, length_); }
  int32_t last_token(int row) const { return tokens(row).back(); }
  // For each row the row of the step before that it continues. Several rows may have one parent; a row without children
  // is gone. After Start: {0}.
  std::span<const int32_t> parents() const { return parents_; }
  // Nothing is left to decode; the rows mean nothing any more.
  bool done() const { return done_; }

 private:
  friend void AdvanceBeams(BeamState& state, std::span<const std::span<const Candidate>> candidates_per_row);
  friend std::span<const int32_t> StablePrefix(const BeamState& state, int known);
  friend void Finalize(const BeamState& state, std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare);

  struct Beam {
    int row;
    float sum;  // float32 as torch adds it; a dead beam's is about -1e9
  };
  // A continuation of a beam.
  struct Continuation {
    float sum;      // with its token
    float running;  // what ranks it among the next beams: the sum, 1e9 less if it hits
    int beam;
    int rank;   // among the candidates of the beam's row
    bool hits;  // the token is an EOS, or the length is max_length after it
  };

  void AdvanceGreedy(std::span<const Candidate> candidates);
  void CollectContinuations(std::span<const std::span<const Candidate>> candidates_per_row);
  void AddFinished(std::span<const std::span<const Candidate>> candidates_per_row);
  void NextBeams(std::span<const std::span<const Candidate>> candidates_per_row);
  bool CanImprove() const;
  bool IsEos(int32_t token) const;
  float LengthDivisor(int new_tokens) const;

  DecodingSpec spec_;
  int length_ = 0;
  bool done_ = false;
  FinishReason greedy_reason_ = FinishReason::kLength;
  std::vector<Beam> beams_;       // num_beams of them, best sum first; greedy: one
  std::vector<int32_t> parents_;  // [rows]
  HypothesisSlots live_;          // num_beams slots, a row in each of the first rows()
  // A step's scratch.
  std::vector<Beam> next_beams_;
  HypothesisSlots next_;
  std::vector<Continuation> continuations_;  // of all beams, best sum first
  std::vector<int> order_;

  FinishedPool finished_;
};

// One step: the candidates of each row (RowRules::count of the best by value, the lower token first among equals, fewer
// only if the vocabulary is smaller; none may be NaN) become the next rows, or the end (state.done()). Not to be called
// on a done state.
void AdvanceBeams(BeamState& state, std::span<const std::span<const Candidate>> candidates_per_row);

// The generated tokens (start token left out) that no later step can change, without the first `known` of them, which
// the caller had from earlier calls: what all live rows and the best finished hypothesis share; of a done state the
// whole best answer. Valid until the next AdvanceBeams or Start.
std::span<const int32_t> StablePrefix(const BeamState& state, int known);

// The answers, best first. Done: num_return_sequences of them, with transformers' sequences_scores. Not done (a
// sequence that is ended early): finished hypotheses and live rows scored at their length, of those the best
// num_return_sequences; perhaps fewer, and none before the first token. `hypotheses` is overwritten; its memory is used
// again. With `spare`, hypotheses that are missing are taken from there, and those left over go there (never beyond its
// capacity).
void Finalize(const BeamState& state, std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare = nullptr);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_BEAM_H_
