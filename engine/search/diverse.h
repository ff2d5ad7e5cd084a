// Diverse beam search (Vijayakumar et al., 2016) over the rows' whole logits, exactly as transformers 4.49, the last
// version that has it (generation/utils.py, _group_beam_search; generation/beam_search.py).
#ifndef ELSERVE_ENGINE_SEARCH_DIVERSE_H_
#define ELSERVE_ENGINE_SEARCH_DIVERSE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/search/running_beam.h"
#include "engine/search/search_state.h"

namespace elserve {

// num_beam_groups groups of beams search one after the other in each step. A token's log-probability is less by
// diversity_penalty for each beam of an earlier group that has just chosen it. Each group has a pool of its own of
// finished hypotheses and ends on its own; then it chooses pad_token_id. Whatever EOS ends a hypothesis, the first one
// stands for it. Answers come from all pools.
//
// Beams with the same tokens share a row, those of different groups too. Nothing is stable before the end.
class DiverseBeamSearch final : public SearchState {
 public:
  void Advance(std::span<const DecodedRow> rows, RowWorkspace& workspace) override;
  std::span<const int32_t> StablePrefix(int known) const override;
  void Finalize(std::vector<Hypothesis>* hypotheses, std::vector<Hypothesis>* spare = nullptr) const override;

 private:
  struct Ending {
    double score;  // Python's float
    int slot;      // of the group's `finished`
    int length;    // tokens, the prefix included
    int parent;    // the row that its last token followed
    FinishReason reason;
  };
  struct Group {
    std::vector<RunningBeam> beams;  // best sum first
    std::vector<Ending>
        endings;  // the best so far, as many as there are beams at most, in the order in which they came
    HypothesisSlots finished;
    double worst = 0;  // of the endings
    bool done = false;
  };
  // A beam and its next token.
  struct Continuation {
    float sum;
    int beam;
    int rank;  // among the candidates of the beam's row
    Candidate candidate;
    float eos_logprob;  // of the first EOS, in this place
  };

  void Begin() override;
  int group_size() const { return spec_.num_beams / spec_.num_beam_groups; }
  // The group's best continuations. False: the logits of a row are not finite.
  bool Collect(const Group& group, std::span<const DecodedRow> rows, RowWorkspace& workspace);
  // What they make of the group.
  void Choose(Group& group);
  // The hypothesis of `parent` with one more token ends, unless as many others are better or as good.
  void End(Group& group, int parent, const TokenLogprob& last, float sum, FinishReason reason);
  static int RowOf(const Group& group, const Continuation& next) {
    return group.beams[static_cast<size_t>(next.beam)].row;
  }
  // The row of the next step that continues `parent` with the token.
  int NextRow(int parent, const Candidate& candidate);
  bool CannotImprove(const Group& group) const;
  void CountChosen(int32_t token);
  double ScoreOf(float sum, int new_tokens) const;

  std::span<Group> groups() { return std::span(groups_).first(static_cast<size_t>(spec_.num_beam_groups)); }
  std::span<const Group> groups() const { return std::span(groups_).first(static_cast<size_t>(spec_.num_beam_groups)); }

  std::vector<Group> groups_;  // as many as any spec had
  // A step's scratch.
  HypothesisSlots next_;
  std::vector<int32_t> next_parents_;
  std::vector<RunningBeam> next_beams_;
  std::vector<int> open_;                    // ranks of a group's continuations that go on
  std::vector<Continuation> continuations_;  // of a group, best sum first
  std::vector<LogitEdit> chosen_;            // what each chosen token loses
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_DIVERSE_H_
