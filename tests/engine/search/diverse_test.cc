// Groups of beams that keep away from each other's tokens. That they are transformers' is for tests/golden/.
#include "engine/search/diverse.h"

#include <cmath>
#include <vector>

#include "engine/search/rules.h"
#include "engine/search/search.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int32_t kEos = 0, kPad = 1, kStart = 2;
constexpr int kVocab = 8;

DecodingSpec Spec(int beams, int groups, float penalty) {
  DecodingSpec spec;
  spec.num_beams = beams;
  spec.num_beam_groups = groups;
  spec.diversity_penalty = penalty;
  spec.num_return_sequences = beams;
  spec.prefix = {kStart};
  spec.eos_token_id = {kEos};
  spec.pad_token_id = kPad;
  spec.max_length = 6;
  return spec;
}

Search Started(const DecodingSpec& spec) {
  Search search;
  search.Start(spec);
  return search;
}

// One step, with the logits of each row, or of all.
void Advance(SearchState& state, const std::vector<std::vector<float>>& logits) {
  EditBuffer edits(1000);
  std::vector<RowRules> rules;
  for (int row = 0; row < state.rows(); ++row) {
    rules.push_back(RulesFor(state.spec(), state.source(), state.tokens(row), edits));
    ASSERT_TRUE(rules.back().whole);
  }
  std::vector<DecodedRow> rows;
  for (size_t row = 0; row < rules.size(); ++row) {
    rows.push_back({{}, logits[logits.size() == 1 ? 0 : row], &rules[row]});
  }
  RowWorkspace workspace;
  state.Advance(rows, workspace);
}

std::vector<Hypothesis> Answers(const SearchState& state) {
  std::vector<Hypothesis> answers;
  state.Finalize(&answers);
  return answers;
}

// Tokens 3, 4 and 5 are likely, in this order.
const std::vector<std::vector<float>> kThree = {{-9, -9, -9, 3, 2.5f, 1, -9, -9}};

TEST(DiverseTest, AGroupKeepsAwayFromWhatThoseBeforeItChose) {
  Search search = Started(Spec(2, 2, 1));
  SearchState& state = search.state();
  EXPECT_EQ(state.rows(), 1);
  Advance(state, kThree);
  ASSERT_EQ(state.rows(), 2);
  EXPECT_THAT(state.parents(), ElementsAre(0, 0));
  EXPECT_THAT(state.tokens(0), ElementsAre(kStart, 3));
  EXPECT_THAT(state.tokens(1), ElementsAre(kStart, 4));

  // A penalty that is too small to matter: both groups share a row.
  search = Started(Spec(2, 2, 0.1f));
  Advance(search.state(), kThree);
  EXPECT_EQ(search.state().rows(), 1);
  EXPECT_THAT(search.state().tokens(0), ElementsAre(kStart, 3));

  // Each beam that chose a token counts: 3 loses 0.4 for each of two groups, and 4 is better then.
  search = Started(Spec(3, 3, 0.4f));
  Advance(search.state(), kThree);
  ASSERT_EQ(search.state().rows(), 2);
  EXPECT_THAT(search.state().tokens(1), ElementsAre(kStart, 4));
}

TEST(DiverseTest, ThePenaltyStaysInTheScore) {
  Search search = Started(Spec(2, 2, 1));
  Advance(search.state(), kThree);
  const std::vector<Hypothesis> answers = Answers(search.state());
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(3));
  EXPECT_FLOAT_EQ(answers[0].score, answers[0].logprobs[0]);
  EXPECT_THAT(answers[1].tokens, ElementsAre(4));
  EXPECT_FLOAT_EQ(answers[1].score, answers[1].logprobs[0]);
  search = Started(Spec(2, 2, 0.25f));
  Advance(search.state(), kThree);
  const std::vector<Hypothesis> same = Answers(search.state());
  EXPECT_THAT(same[1].tokens, ElementsAre(3));
  EXPECT_FLOAT_EQ(same[1].score, same[1].logprobs[0] - 0.25f);
}

TEST(DiverseTest, AnEndedGroupChoosesPad) {
  DecodingSpec spec = Spec(2, 2, 3);
  spec.early_stopping = EarlyStopping::kTrue;
  Search search = Started(spec);
  SearchState& state = search.state();
  Advance(state, kThree);
  ASSERT_EQ(state.rows(), 2);
  // EOS ends the first group.
  Advance(state, {{5, -9, -9, 4, 3, -9, -9, -9}, {-9, -9, -9, -9, -9, 4, 3, -9}});
  EXPECT_FALSE(state.done());
  EXPECT_THAT(state.StablePrefix(0), IsEmpty());
  ASSERT_EQ(state.rows(), 1);
  EXPECT_THAT(state.tokens(0), ElementsAre(kStart, 4, 5));
  // Pad would be the best for the second group, but for the first one's choice of it.
  Advance(state, {{-9, 4, -9, 3.5f, -9, -9, -9, -9}});
  ASSERT_EQ(state.rows(), 1);
  EXPECT_THAT(state.tokens(0), ElementsAre(kStart, 4, 5, 3));
  Advance(state, {{9, -9, -9, 1, -9, -9, -9, -9}});
  ASSERT_TRUE(state.done());
  const std::vector<Hypothesis> answers = Answers(state);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(3, kEos));
  EXPECT_THAT(answers[1].tokens, ElementsAre(4, 5, 3, kEos));
  EXPECT_EQ(answers[1].reason, FinishReason::kEos);
  EXPECT_THAT(state.StablePrefix(1), ElementsAre(kEos));
}

TEST(DiverseTest, TheFirstEosStandsForAll) {
  DecodingSpec spec = Spec(2, 2, 1);
  spec.eos_token_id = {kEos, 5};
  spec.early_stopping = EarlyStopping::kTrue;
  Search search = Started(spec);
  Advance(search.state(), {{-9, -9, -9, 1, 1.5f, 6, -9, -9}});
  const std::vector<Hypothesis> answers = Answers(search.state());
  EXPECT_THAT(answers[0].tokens, ElementsAre(kEos));
  EXPECT_LT(answers[0].logprobs[0], -10);
}

TEST(DiverseTest, EndedEarlyItAnswersWithWhatThereIs) {
  Search search = Started(Spec(4, 2, 1));
  EXPECT_THAT(Answers(search.state()), IsEmpty());
  Advance(search.state(), kThree);
  Advance(search.state(), kThree);
  EXPECT_FALSE(search.state().done());
  EXPECT_THAT(search.state().StablePrefix(0), IsEmpty());
  const std::vector<Hypothesis> answers = Answers(search.state());
  ASSERT_EQ(answers.size(), 4u);
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].tokens.size(), 2u);
    EXPECT_EQ(answers[i].reason, FinishReason::kLength);
    EXPECT_GE(answers[0].score, answers[i].score);
  }
}

TEST(DiverseTest, OpenBeamsCompeteAtTheEndAndTheLaterOfEqualsIsBetter) {
  DecodingSpec spec = Spec(2, 1, 0);
  spec.num_beam_groups = 2;
  spec.num_beams = 4;
  spec.num_return_sequences = 4;
  spec.diversity_penalty = 0.5f;
  spec.max_length = 2;
  spec.forced_eos_token_id = {kEos, 4};
  Search search = Started(spec);
  Advance(search.state(), kThree);
  ASSERT_TRUE(search.state().done());
  const std::vector<Hypothesis> answers = Answers(search.state());
  ASSERT_EQ(answers.size(), 4u);
  // Of each group EOS ended, and 4 came as it was, with the same sum; the later is the better one.
  EXPECT_THAT(answers[0].tokens, ElementsAre(4));
  EXPECT_EQ(answers[0].reason, FinishReason::kLength);
}

TEST(DiverseTest, LogitsThatAreNotFiniteFail) {
  Search search = Started(Spec(2, 2, 1));
  Advance(search.state(), {std::vector<float>(kVocab, NAN)});
  EXPECT_TRUE(search.state().failed());
  EXPECT_TRUE(search.state().done());
}

}  // namespace
}  // namespace elserve
