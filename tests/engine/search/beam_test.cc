#include <cmath>
#include <cstdlib>
#include <limits>
#include <new>
#include <span>
#include <vector>

#include "engine/search/rules.h"
#include "engine/search/search.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace {
int64_t allocations = 0;
}  // namespace

// Not inlined: the compiler would see malloc's memory given to operator delete.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::IsEmpty;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kStart = 0, kEos = 1;

// One row's candidates; the log-probability is the value.
using Row = std::vector<Candidate>;
Row Of(std::initializer_list<std::pair<int, double>> pairs) {
  Row row;
  for (const auto& [token, value] : pairs) row.push_back({token, static_cast<float>(value), static_cast<float>(value)});
  return row;
}

void Advance(SearchState& state, const std::vector<Row>& rows) {
  ASSERT_EQ(static_cast<int>(rows.size()), state.rows());
  std::vector<DecodedRow> decoded;
  for (const Row& row : rows) decoded.push_back({row});
  RowWorkspace workspace;
  state.Advance(decoded, workspace);
}

DecodingSpec Spec(int beams) {
  DecodingSpec spec;
  spec.num_beams = beams;
  spec.prefix = {kStart};
  spec.eos_token_id = {kEos};
  return spec;
}

Search Started(const DecodingSpec& spec) {
  Search search;
  search.Start(spec);
  return search;
}

std::vector<Hypothesis> Answers(const SearchState& state) {
  std::vector<Hypothesis> answers;
  state.Finalize(&answers);
  return answers;
}

TEST(GreedyTest, TakesTheBestUntilEos) {
  Search search = Started(Spec(1));
  SearchState& state = search.state();
  EXPECT_EQ(state.rows(), 1);
  EXPECT_THAT(state.tokens(0), ElementsAre(kStart));
  EXPECT_THAT(Answers(state), IsEmpty());
  // The value is a logit, the sum is of log-probabilities.
  Advance(state, {{{7, 12.0f, -0.5f}}});
  EXPECT_FALSE(state.done());
  EXPECT_EQ(state.last_token(0), 7);
  EXPECT_THAT(state.parents(), ElementsAre(0));
  EXPECT_THAT(state.StablePrefix(0), ElementsAre(7));
  EXPECT_EQ(Answers(state)[0].reason, FinishReason::kLength);  // were it ended now
  Advance(state, {{{kEos, 3.0f, -0.25f}}});
  ASSERT_TRUE(state.done());
  EXPECT_THAT(state.StablePrefix(1), ElementsAre(kEos));
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(7, kEos));
  EXPECT_THAT(answers[0].logprobs, ElementsAre(-0.5f, -0.25f));
  EXPECT_EQ(answers[0].score, -0.75f);
  EXPECT_EQ(answers[0].reason, FinishReason::kEos);
}

TEST(GivenTokensTest, AnswersWithWhatFollowsInAnyPortions) {
  DecodingSpec spec = Spec(1);
  spec.prefix = {kStart, 9, 5, 6, kEos};
  spec.score_from = 2;
  spec.max_length = 5;
  Search search = Started(spec);
  SearchState& state = search.state();
  const Row first = {{5, 0, -0.5f}}, second = {{6, 0, -0.25f}}, third = {{kEos, 0, -1.0f}};
  const std::vector<DecodedRow> two = {{first}, {second}}, one = {{third}};
  RowWorkspace workspace;
  state.Advance(two, workspace);
  EXPECT_FALSE(state.done());
  EXPECT_THAT(Answers(state), IsEmpty());
  EXPECT_THAT(state.StablePrefix(0), IsEmpty());
  state.Advance(one, workspace);
  ASSERT_TRUE(state.done());
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(5, 6, kEos));
  EXPECT_THAT(answers[0].logprobs, ElementsAre(-0.5f, -0.25f, -1.0f));
  EXPECT_EQ(answers[0].score, -1.75f);
  EXPECT_EQ(answers[0].reason, FinishReason::kEos);
}

TEST(GreedyTest, EndsAtMaxLength) {
  DecodingSpec spec = Spec(1);
  spec.max_length = 3;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, {Of({{5, -1}})});
  EXPECT_FALSE(state.done());
  Advance(state, {Of({{6, -1}})});
  EXPECT_TRUE(state.done());
  EXPECT_EQ(Answers(state)[0].reason, FinishReason::kLength);
}

TEST(GreedyTest, AnyEosEndsAlsoAtTheLastPlace) {
  DecodingSpec spec = Spec(1);
  spec.eos_token_id = {kEos, 9};
  spec.max_length = 2;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, {Of({{9, -1}})});
  EXPECT_TRUE(state.done());
  EXPECT_EQ(Answers(state)[0].reason, FinishReason::kEos);
}

TEST(BeamTest, OneRowFeedsAllBeamsAtTheStart) {
  Search search = Started(Spec(3));
  SearchState& state = search.state();
  EXPECT_EQ(state.rows(), 1);
  Advance(state, {Of({{5, -1}, {6, -2}, {7, -3}, {8, -4}})});
  ASSERT_EQ(state.rows(), 3);
  EXPECT_THAT(state.parents(), ElementsAre(0, 0, 0));
  EXPECT_THAT(state.tokens(0), ElementsAre(kStart, 5));
  EXPECT_THAT(state.tokens(1), ElementsAre(kStart, 6));
  EXPECT_THAT(state.tokens(2), ElementsAre(kStart, 7));
}

TEST(BeamTest, AForcedFirstTokenKeepsOneRow) {
  Search search = Started(Spec(3));
  SearchState& state = search.state();
  Advance(state, {Of({{5, 0}, {0, -kInfinity}, {1, -kInfinity}, {2, -kInfinity}})});
  EXPECT_FALSE(state.done());
  EXPECT_EQ(state.rows(), 1);
  EXPECT_THAT(state.StablePrefix(0), ElementsAre(5));
  Advance(state, {Of({{5, -1}, {6, -2}, {7, -3}, {8, -4}})});
  EXPECT_EQ(state.rows(), 3);
}

TEST(BeamTest, BeamsSwapParents) {
  Search search = Started(Spec(2));
  SearchState& state = search.state();
  Advance(state, {Of({{5, -1}, {6, -1.5}, {7, -9}})});
  // Both next beams continue the second row.
  Advance(state, {Of({{5, -8}, {6, -9}, {7, -9.5}}), Of({{8, -0.25}, {9, -0.5}, {7, -9}})});
  EXPECT_THAT(state.parents(), ElementsAre(1, 1));
  EXPECT_THAT(state.tokens(0), ElementsAre(kStart, 6, 8));
  EXPECT_THAT(state.tokens(1), ElementsAre(kStart, 6, 9));
  EXPECT_THAT(state.StablePrefix(0), ElementsAre(6));
}

TEST(BeamTest, ScoreIsTheSumOverTheLengthWithItsEos) {
  DecodingSpec spec = Spec(2);
  spec.length_penalty = 2;
  spec.early_stopping = EarlyStopping::kTrue;
  spec.num_return_sequences = 2;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, {Of({{5, -1}, {6, -2}, {7, -9}})});
  Advance(state, {Of({{kEos, -1}, {5, -8}, {6, -9}}), Of({{kEos, -2}, {5, -7}, {6, -9}})});
  ASSERT_TRUE(state.done());  // both places are taken
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(5, kEos));
  EXPECT_EQ(answers[0].score, -2.0f / 4);
  EXPECT_THAT(answers[0].logprobs, ElementsAre(-1, -1));
  EXPECT_EQ(answers[1].score, -4.0f / 4);
  EXPECT_THAT(state.StablePrefix(0), ElementsAre(5, kEos));
}

TEST(BeamTest, AnEosRankedBelowNumBeamsIsLost) {
  DecodingSpec spec = Spec(2);
  spec.max_length = 3;
  spec.num_return_sequences = 2;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, {Of({{5, -1}, {6, -2}, {kEos, -2.5}})});
  Advance(state, {Of({{5, -1}, {6, -2}, {7, -9}}), Of({{5, -5}, {6, -6}, {7, -9}})});
  ASSERT_TRUE(state.done());
  for (const Hypothesis& answer : Answers(state)) {
    EXPECT_EQ(answer.tokens.size(), 2u);
    EXPECT_EQ(answer.reason, FinishReason::kLength);
  }
}

// A finished hypothesis of -2 / 1 and a live one of -3: with length_penalty 1 its score at the current length 2 is
// -1.5.
Search OneFinishedOfTwo(EarlyStopping early_stopping, float length_penalty) {
  DecodingSpec spec = Spec(2);
  spec.length_penalty = length_penalty;
  spec.early_stopping = early_stopping;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, {Of({{5, -0.5}, {kEos, -2}, {6, -2.5}})});
  EXPECT_FALSE(state.done());
  Advance(state, {Of({{kEos, -1}, {6, -8}, {7, -9}}), Of({{5, -7.5}, {6, -9}, {7, -9.5}})});
  return search;
}

TEST(BeamTest, EarlyStoppingTrueEndsWithAFullPool) {
  EXPECT_TRUE(OneFinishedOfTwo(EarlyStopping::kTrue, 0.0f).state().done());
}

TEST(BeamTest, EarlyStoppingFalseJudgesByTheCurrentLength) {
  // The live beam has -8.5 / 2; the worst finished -2.
  EXPECT_TRUE(OneFinishedOfTwo(EarlyStopping::kFalse, 1.0f).state().done());
}

TEST(BeamTest, EarlyStoppingNeverJudgesByMaxLength) {
  // -8.5 / 19 is still better than -2.
  EXPECT_FALSE(OneFinishedOfTwo(EarlyStopping::kNever, 1.0f).state().done());
  EXPECT_TRUE(OneFinishedOfTwo(EarlyStopping::kNever, 0.0f).state().done());
}

TEST(BeamTest, AtMaxLengthOpenBeamsCompeteWithFinishedOnes) {
  DecodingSpec spec = Spec(2);
  spec.max_length = 3;
  spec.num_return_sequences = 2;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, {Of({{kEos, -0.5}, {5, -1}, {6, -2}})});
  Advance(state, {Of({{7, -0.5}, {8, -2}, {9, -3}}), Of({{7, -4}, {8, -5}, {9, -6}})});
  ASSERT_TRUE(state.done());
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(kEos));
  EXPECT_EQ(answers[0].reason, FinishReason::kEos);
  EXPECT_THAT(answers[1].tokens, ElementsAre(5, 7));
  EXPECT_EQ(answers[1].score, -0.75f);
  EXPECT_EQ(answers[1].reason, FinishReason::kLength);
}

// Every row's alternatives: its step and row as tokens, so that each tells where it comes from.
void AdvanceWithAlternatives(SearchState& state, int step, const std::vector<Row>& rows) {
  ASSERT_EQ(state.select_rows(), 2 * state.rows());
  std::vector<Row> alternatives;
  for (int row = 0; row < state.rows(); ++row) {
    const float logprob = static_cast<float>(-row) - 0.5f;
    alternatives.push_back({{100 * step + 10 * row, 5.0f, logprob}, {100 * step + 10 * row + 1, 4.0f, logprob - 1}});
  }
  std::vector<DecodedRow> most_likely;
  for (const Row& row : alternatives) most_likely.push_back({row});
  state.NoteAlternatives(most_likely);
  Advance(state, rows);
}

std::vector<int32_t> Tokens(const std::vector<TokenLogprob>& alternatives) {
  std::vector<int32_t> tokens;
  for (const TokenLogprob& each : alternatives) tokens.push_back(each.token);
  return tokens;
}

TEST(BeamTest, AlternativesAreThoseOfTheRowsThatAHypothesisWentThrough) {
  DecodingSpec spec = Spec(2);
  spec.num_return_sequences = 2;
  spec.max_length = 4;
  spec.top_logprobs = 2;
  Search search = Started(spec);
  SearchState& state = search.state();
  AdvanceWithAlternatives(state, 1, {Of({{5, -1.0}, {6, -1.1}, {7, -9.0}})});
  // Both next rows continue row 1; an ended hypothesis continues row 0.
  AdvanceWithAlternatives(state, 2, {Of({{kEos, -0.1}, {8, -7.0}, {9, -8.0}}), Of({{8, -0.2}, {9, -0.3}, {7, -9.0}})});
  ASSERT_FALSE(state.done());
  ASSERT_THAT(state.parents(), ElementsAre(1, 1));
  const std::vector<Hypothesis> early = Answers(state);
  ASSERT_EQ(early.size(), 2u);
  EXPECT_THAT(early[0].tokens, ElementsAre(5, kEos));
  EXPECT_THAT(Tokens(early[0].alternatives), ElementsAre(100, 101, 200, 201));
  EXPECT_THAT(early[1].tokens, ElementsAre(6, 8));
  EXPECT_THAT(Tokens(early[1].alternatives), ElementsAre(100, 101, 210, 211));
  EXPECT_THAT(early[1].alternatives[3].logprob, FloatEq(-2.5f));
  AdvanceWithAlternatives(state, 3, {Of({{3, -0.9}, {4, -9.0}, {7, -9.5}}), Of({{3, -0.1}, {4, -9.0}, {7, -9.5}})});
  ASSERT_TRUE(state.done());
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(6, 9, 3));
  EXPECT_THAT(Tokens(answers[0].alternatives), ElementsAre(100, 101, 210, 211, 310, 311));
  EXPECT_THAT(answers[1].tokens, ElementsAre(5, kEos));
  EXPECT_THAT(Tokens(answers[1].alternatives), ElementsAre(100, 101, 200, 201));
  // A search without them leaves none behind.
  spec.top_logprobs = 0;
  search.Start(spec);
  std::vector<Hypothesis> none = answers;
  Advance(search.state(), {Of({{5, -1.0}, {6, -1.1}, {7, -9.0}})});
  search.state().Finalize(&none);
  EXPECT_THAT(none[0].alternatives, IsEmpty());
}

TEST(GreedyTest, ATinyVocabularyHasFewerAlternatives) {
  DecodingSpec spec = Spec(1);
  spec.top_logprobs = 20;
  Search search = Started(spec);
  AdvanceWithAlternatives(search.state(), 1, {Of({{5, -1.0}})});
  AdvanceWithAlternatives(search.state(), 2, {Of({{kEos, -1.0}})});
  ASSERT_TRUE(search.state().done());
  EXPECT_THAT(Tokens(Answers(search.state())[0].alternatives), ElementsAre(100, 101, 200, 201));
}

TEST(BeamTest, EndedEarlyGivesFinishedAndLiveByScore) {
  DecodingSpec spec = Spec(2);
  spec.num_return_sequences = 2;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, {Of({{5, -0.5}, {kEos, -2}, {6, -2.5}})});
  ASSERT_FALSE(state.done());
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(5));
  EXPECT_EQ(answers[0].reason, FinishReason::kLength);
  EXPECT_EQ(answers[0].score, -0.5f);
  EXPECT_THAT(answers[1].tokens, ElementsAre(kEos));
  EXPECT_EQ(answers[1].reason, FinishReason::kEos);
}

TEST(BeamTest, AFinishedHypothesisHoldsTheStreamBack) {
  Search search = Started(Spec(2));
  SearchState& state = search.state();
  Advance(state, {Of({{5, -0.5}, {kEos, -2}, {5, -2.5}})});
  ASSERT_FALSE(state.done());
  EXPECT_THAT(state.StablePrefix(0), IsEmpty());  // the answer may still be EOS alone
}

TEST(BeamTest, ATinyVocabularyIsNoTrouble) {
  DecodingSpec spec = Spec(8);
  spec.num_return_sequences = 8;
  spec.max_length = 4;
  Search search = Started(spec);
  SearchState& state = search.state();
  while (!state.done()) {
    std::vector<Row> rows(state.rows(), Of({{2, -0.5}, {kEos, -1}}));
    Advance(state, rows);
  }
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 8u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(2, 2, 2));
}

TEST(BeamTest, ARowThatBansAllStillEnds) {
  DecodingSpec spec = Spec(2);
  spec.max_length = 5;
  Search search = Started(spec);
  SearchState& state = search.state();
  int steps = 0;
  for (; !state.done(); ++steps) {
    std::vector<Row> rows(state.rows(), Of({{2, -kInfinity}, {3, -kInfinity}, {4, -kInfinity}}));
    Advance(state, rows);
  }
  EXPECT_EQ(steps, 1);
  EXPECT_EQ(Answers(state).size(), 1u);
}

TEST(BeamTest, AStateStartsAgainAsNew) {
  DecodingSpec spec = Spec(2);
  spec.early_stopping = EarlyStopping::kTrue;
  Search search = OneFinishedOfTwo(EarlyStopping::kTrue, 1.0f);
  SearchState& state = search.state();
  ASSERT_TRUE(state.done());
  state.Start(spec);
  EXPECT_FALSE(state.done());
  EXPECT_EQ(state.rows(), 1);
  EXPECT_EQ(state.length(), 1);
  EXPECT_THAT(state.StablePrefix(0), IsEmpty());
  EXPECT_THAT(Answers(state), IsEmpty());
  search.Start(Spec(1));
  Advance(search.state(), {Of({{kEos, -1}})});
  EXPECT_EQ(Answers(search.state()).size(), 1u);
}

// A whole search with all rules on; its candidates come from `rows`, filled before.
void RunSearch(SearchState& state, EditBuffer& edits, std::vector<DecodedRow>& candidates) {
  RowWorkspace workspace;
  while (!state.done()) {
    edits.Clear();
    for (int row = 0; row < state.rows(); ++row) RulesFor(state.spec(), state.source(), state.tokens(row), edits);
    state.Advance(std::span(candidates).first(static_cast<size_t>(state.rows())), workspace);
    state.StablePrefix(0);
  }
}

TEST(BeamTest, StepsAllocateNothing) {
  for (int beams : {1, 4, kMaxBeams}) {
    DecodingSpec spec = Spec(beams);
    spec.max_length = 100;
    spec.min_length = 10;
    spec.no_repeat_ngram_size = 1;
    spec.early_stopping = EarlyStopping::kNever;
    spec.eos_token_id.assign(kMaxEosIds, kEos);
    spec.num_return_sequences = beams;
    std::vector<Row> rows(beams);
    for (int row = 0; row < beams; ++row) {
      for (int i = 0; i < CandidatesPerRow(spec); ++i) {
        const float value = -0.1f * static_cast<float>(i) - 0.01f * static_cast<float>((row * 7) % 5);
        rows[row].push_back({i == beams / 2 + 1 ? kEos : 2 + i, value, value});
      }
    }
    std::vector<DecodedRow> candidates;
    for (const Row& row : rows) candidates.push_back({row});
    EditBuffer edits(MaxEdits(spec, 0));
    Search search = Started(spec);
    SearchState& state = search.state();
    const int64_t before = allocations;
    RunSearch(state, edits, candidates);
    EXPECT_EQ(allocations - before, 0) << beams << " beams";
    EXPECT_GT(state.length(), 10);

    // Another sequence in the same state takes nothing either, its answers in the same place included.
    std::vector<Hypothesis> answers;
    state.Finalize(&answers);
    EXPECT_EQ(static_cast<int>(answers.size()), beams);
    const int64_t warm = allocations;
    state.Start(spec);
    RunSearch(state, edits, candidates);
    state.Finalize(&answers);
    EXPECT_EQ(allocations - warm, 0) << beams << " beams";
  }
}

}  // namespace
}  // namespace elserve
