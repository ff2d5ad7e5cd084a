// Draws: which number belongs to which token, and how hypotheses live beside one another.
#include "engine/search/sample.h"

#include <array>
#include <cmath>
#include <map>
#include <vector>

#include "engine/search/random.h"
#include "engine/search/search.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;

// The known answers of Random123, its authors' library.
TEST(RandomTest, PhiloxIsThatOfItsAuthors) {
  EXPECT_THAT(Philox({0, 0, 0, 0}, {0, 0}), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(RandomTest, EachPlaceHasItsOwnNumber) {
  std::map<double, int> seen;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, ~uint64_t{0}}) {
    for (uint32_t step = 0; step < 50; ++step) {
      for (uint32_t hypothesis = 0; hypothesis < 8; ++hypothesis) ++seen[UniformAt(seed, step, hypothesis)];
    }
  }
  EXPECT_EQ(seen.size(), 4u * 50 * 8);
  EXPECT_GE(seen.begin()->first, 0);
  EXPECT_LT(seen.rbegin()->first, 1);
}

constexpr int32_t kEos = 0;

DecodingSpec Spec(int hypotheses, uint64_t seed) {
  DecodingSpec spec;
  spec.do_sample = true;
  spec.num_return_sequences = hypotheses;
  spec.prefix = {9};
  spec.max_length = 12;
  spec.eos_token_id = {kEos};
  spec.sampling.top_k = 4;
  spec.sampling.seed = seed;
  return spec;
}

// Token t has probability (t + 1) / 10.
const std::vector<Candidate> kFour = {{3, std::log(0.4f), std::log(0.4f)},
                                      {2, std::log(0.3f), std::log(0.3f)},
                                      {1, std::log(0.2f), std::log(0.2f)},
                                      {0, std::log(0.1f), std::log(0.1f)}};

std::vector<Hypothesis> Sampled(const DecodingSpec& spec, int most_steps = 100) {
  Search search;
  search.Start(spec);
  RowWorkspace workspace;
  for (int step = 0; step < most_steps && !search.state().done(); ++step) {
    const std::vector<DecodedRow> rows(static_cast<size_t>(search.state().rows()), DecodedRow{kFour});
    search.state().Advance(rows, workspace);
  }
  std::vector<Hypothesis> answers;
  search.state().Finalize(&answers);
  return answers;
}

TEST(SampleTest, DrawsAreAsLikelyAsTheyShouldBe) {
  constexpr int kDraws = 100000;
  std::array<int, 4> counts = {};
  DecodingSpec spec = Spec(kMaxBeams, 0);
  spec.max_length = 2;
  for (int i = 0; i < kDraws / kMaxBeams; ++i) {
    spec.sampling.seed = static_cast<uint64_t>(i);
    for (const Hypothesis& answer : Sampled(spec)) ++counts[static_cast<size_t>(answer.tokens[0])];
  }
  double chi_square = 0;
  for (size_t token = 0; token < 4; ++token) {
    const double expected = kDraws * 0.1 * static_cast<double>(token + 1);
    chi_square += (counts[token] - expected) * (counts[token] - expected) / expected;
  }
  EXPECT_LT(chi_square, 16.27);  // 0.1 % of true draws exceed it, with 3 degrees of freedom
}

TEST(SampleTest, TokensOfOneHypothesisAreDrawnApart) {
  DecodingSpec spec = Spec(1, 1);
  spec.eos_token_id = {};
  spec.max_length = 20001;
  std::array<std::array<int, 4>, 4> pairs = {};
  const std::vector<Hypothesis> answers = Sampled(spec, 20000);
  const std::vector<int32_t>& tokens = answers[0].tokens;
  ASSERT_EQ(tokens.size(), 20000u);
  for (size_t i = 0; i + 1 < tokens.size(); i += 2) ++pairs[tokens[i]][tokens[i + 1]];
  double chi_square = 0;
  for (size_t a = 0; a < 4; ++a) {
    for (size_t b = 0; b < 4; ++b) {
      const double expected = 10000 * 0.01 * static_cast<double>((a + 1) * (b + 1));
      chi_square += (pairs[a][b] - expected) * (pairs[a][b] - expected) / expected;
    }
  }
  EXPECT_LT(chi_square, 37.70);  // 0.1 %, 15 degrees of freedom
}

TEST(SampleTest, HypothesesAreDrawnAloneAsTogether) {
  const std::vector<Hypothesis> together = Sampled(Spec(8, 77));
  ASSERT_EQ(together.size(), 8u);
  int ended = 0;
  for (const Hypothesis& answer : together) {
    float sum = 0;
    for (size_t i = 0; i < answer.tokens.size(); ++i) {
      EXPECT_EQ(answer.logprobs[i], std::log(0.1f * static_cast<float>(answer.tokens[i] + 1)));
      sum += answer.logprobs[i];
    }
    EXPECT_EQ(answer.score, sum);
    const bool eos = answer.tokens.back() == kEos;
    EXPECT_EQ(answer.reason, eos ? FinishReason::kEos : FinishReason::kLength);
    EXPECT_TRUE(eos || answer.tokens.size() == 11u);
    ended += eos ? 1 : 0;
  }
  EXPECT_GT(ended, 1);
  EXPECT_LT(ended, 8);
  // Fewer beside it change nothing, and another seed does.
  for (int count : {1, 3}) {
    const std::vector<Hypothesis> fewer = Sampled(Spec(count, 77));
    for (int i = 0; i < count; ++i) EXPECT_EQ(fewer[i].tokens, together[i].tokens);
  }
  EXPECT_NE(Sampled(Spec(1, 78))[0].tokens, together[0].tokens);
}

TEST(SampleTest, RowsAreTheHypothesesThatLive) {
  DecodingSpec spec = Spec(3, 0);
  Search search;
  search.Start(spec);
  SearchState& state = search.state();
  EXPECT_EQ(state.rows(), 1);
  RowWorkspace workspace;
  // One token that can be drawn: all three share it, and have a row each from now on.
  const std::vector<Candidate> five = {{5, 0, -1}}, end = {{kEos, 0, -2}}, six = {{6, 0, -3}};
  state.Advance(std::vector<DecodedRow>{{five}}, workspace);
  EXPECT_THAT(state.parents(), ElementsAre(0, 0, 0));
  EXPECT_THAT(state.tokens(2), ElementsAre(9, 5));
  state.Advance(std::vector<DecodedRow>{{six}, {end}, {five}}, workspace);
  EXPECT_THAT(state.parents(), ElementsAre(0, 2));
  EXPECT_THAT(state.tokens(0), ElementsAre(9, 5, 6));
  EXPECT_THAT(state.tokens(1), ElementsAre(9, 5, 5));
  EXPECT_THAT(state.StablePrefix(1), ElementsAre(6));
  // Ended now, the others come as far as they are.
  std::vector<Hypothesis> answers;
  state.Finalize(&answers);
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_THAT(answers[0].tokens, ElementsAre(5, 6));
  EXPECT_THAT(answers[1].tokens, ElementsAre(5, kEos));
  EXPECT_EQ(answers[1].score, -3);
  EXPECT_THAT(answers[2].tokens, ElementsAre(5, 5));
  state.Advance(std::vector<DecodedRow>{{end}, {end}}, workspace);
  EXPECT_TRUE(state.done());
  EXPECT_THAT(state.StablePrefix(2), ElementsAre(kEos));
}

TEST(SampleTest, WholeRowsThatAreNotFiniteFail) {
  DecodingSpec spec = Spec(2, 0);
  spec.sampling.top_k = 0;
  Search search;
  search.Start(spec);
  RowRules rules;
  rules.whole = true;
  const std::vector<float> good = {1, 2}, bad = {1, NAN};
  RowWorkspace workspace;
  search.state().Advance(std::vector<DecodedRow>{{{}, good, &rules}}, workspace);
  EXPECT_FALSE(search.state().failed());
  ASSERT_GT(search.state().rows(), 0);
  search.state().Advance(std::vector<DecodedRow>(static_cast<size_t>(search.state().rows()), {{}, bad, &rules}),
                         workspace);
  EXPECT_TRUE(search.state().failed());
  EXPECT_TRUE(search.state().done());
  search.Start(spec);
  EXPECT_FALSE(search.state().failed());
}

}  // namespace
}  // namespace elserve
