// What the engine knows of a search: rows of tokens that the device decodes, and what its candidates make of them.
//
// One step of a sequence: RulesFor() (rules.h) for each of its rows, the device's candidates, Advance(); then the next
// rows stand in the state with their parents. Host code on numbers alone: it knows no device and no clock. After
// Start() nothing that is called per step allocates.
#ifndef ELSERVE_ENGINE_SEARCH_SEARCH_STATE_H_
#define ELSERVE_ENGINE_SEARCH_SEARCH_STATE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/decoding.h"
#include "engine/search/alternatives_log.h"
#include "engine/search/decoded_row.h"
#include "engine/search/hypotheses.h"

namespace elserve {

// A way to search is a state of its own (greedy.h, beam.h, diverse.h, sample.h, given_tokens.h). A row is a distinct
// token sequence that the device decodes.
class SearchState {
 public:
  virtual ~SearchState() = default;

  // Begins with one row that holds the prefix. Takes all memory that the search needs until its end; a second Start
  // uses it again where it is large enough. The spec is copied; it has to be valid (see DecodingSpec).
  void Start(const DecodingSpec& spec, std::span<const int32_t> source = {});

  const DecodingSpec& spec() const { return spec_; }
  // For RulesFor; empty where no rule needs it.
  std::span<const int32_t> source() const { return source_; }
  int prefix_length() const { return static_cast<int>(spec_.prefix.size()); }
  // Where answers begin: behind the prefix, or at DecodingSpec::score_from.
  int answer_begin() const { return spec_.score_from > 0 ? spec_.score_from : prefix_length(); }
  // Tokens of every live row, the prefix included.
  int length() const { return length_; }
  int rows() const { return static_cast<int>(parents_.size()); }
  // The row's tokens, the prefix first; valid until the next Advance.
  std::span<const int32_t> tokens(int row) const { return live_.tokens(row, length_); }
  int32_t last_token(int row) const { return tokens(row).back(); }
  // For each row the row of the step before that it continues. Several rows may have one parent; a row without children
  // is gone. After Start: {0}.
  std::span<const int32_t> parents() const { return parents_; }
  // Rows that the device has to select of: after the live rows those of NoteAlternatives.
  int select_rows() const { return spec_.top_logprobs > 0 ? 2 * rows() : rows(); }
  // Nothing is left to decode; the rows mean nothing any more.
  bool done() const { return done_; }
  // Done because the logits of a whole row were not finite: there are no answers.
  bool failed() const { return failed_; }

  // With top_logprobs, before each Advance: of each row its most likely tokens, for the answers.
  void NoteAlternatives(std::span<const DecodedRow> most_likely) { alternatives_.Add(parents_, most_likely); }
  // Gives their memory back, which is large and which few searches need. Finalize has no answers after it.
  void FreeAlternatives() { alternatives_ = AlternativesLog(); }

  // One step: what the device found of each row becomes the next rows, or the end (done()). Not to be called on a done
  // state. States may be advanced at once, each with a workspace of its own.
  virtual void Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) = 0;

  // The generated tokens that no later step can change, without the first `known` of them, which the caller had from
  // earlier calls; of a done state the whole best answer. Valid until the next Advance or Start.
  virtual std::span<const int32_t> StablePrefix(int known) const = 0;

  // The answers, best first, drawn ones in their order. Done: num_return_sequences of them, with transformers'
  // sequences_scores. Not done (a sequence that is ended early): what there is, perhaps fewer, and none before the
  // first token. `hypotheses` is overwritten; its memory is used again. With `spare`, hypotheses that are missing are
  // taken from there, and those left over go there (never beyond its capacity).
  virtual void Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare = nullptr) const = 0;

 protected:
  struct Answer {
    std::span<const int32_t> tokens;  // from the prefix's first on
    std::span<const float> logprobs;  // of those from answer_begin() on
    float score = 0;
    FinishReason reason = FinishReason::kLength;
    int parent = 0;  // the row that the last token followed
  };

  // The rest of Start: the one row stands.
  virtual void Begin() = 0;
  // Each row's candidates, for searches that go by these alone; those of a whole row are ranked here. Empty where one
  // failed: the search is done then.
  std::span<const std::span<const Candidate>> CandidatesOf(std::span<const DecodedRow> rows, RowWorkspace& workspace);
  bool IsEos(int32_t token) const;
  // Why a hypothesis of one beam ends with its last token; kLength: it does not, unless its length is max_length.
  FinishReason ReasonAt(std::span<const int32_t> tokens);
  // Finalize's last step.
  void Write(std::span<const Answer> answers, std::vector<Hypothesis>* hypotheses,
             std::vector<Hypothesis>* spare) const;

  DecodingSpec spec_;
  std::vector<int32_t> source_;
  int length_ = 0;
  bool done_ = false;
  bool failed_ = false;
  std::vector<int32_t> parents_;  // [rows]
  HypothesisSlots live_;          // a row in each of the first rows()

 private:
  AlternativesLog alternatives_;
  std::string stop_window_;
  // A step's scratch.
  std::vector<std::span<const Candidate>> candidates_;  // [rows]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_SEARCH_STATE_H_
