// What tokens are drawn from, against transformers' logits processors and warpers (make_sampling_cases.py).
#include "engine/search/distribution.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "engine/search/row_sums.h"
#include "engine/search/row_values.h"
#include "engine/search/rules.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace elserve {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// make_sampling_cases.py's logits_of.
std::vector<float> LogitsOf(const json& c) {
  std::vector<float> logits;
  for (int token = 0; token < c["vocab"]; ++token) {
    const double u = static_cast<double>(Mix(c["seed"].get<uint64_t>() + static_cast<uint64_t>(token))) * 0x1p-63 - 1;
    logits.push_back(static_cast<float>(std::floor(std::pow(u, 3) * 65536) / 65536 * c["spread"].get<double>()));
  }
  return logits;
}

DecodingSpec SpecOf(const json& parameters) {
  DecodingSpec spec;
  spec.do_sample = true;
  spec.max_length = 40;
  spec.eos_token_id = {2, 3};
  spec.sampling = {.temperature = parameters.value("temperature", 1.0f),
                   .top_h = parameters.value("top_h", 0.0),
                   .top_k = parameters.value("top_k", 50),
                   .top_p = parameters.value("top_p", 1.0),
                   .min_p = parameters.value("min_p", 0.0),
                   .typical_p = parameters.value("typical_p", 1.0),
                   .epsilon_cutoff = parameters.value("epsilon_cutoff", 0.0),
                   .eta_cutoff = parameters.value("eta_cutoff", 0.0)};
  spec.repetition_penalty = parameters.value("repetition_penalty", 1.0f);
  spec.encoder_repetition_penalty = parameters.value("encoder_repetition_penalty", 1.0f);
  spec.no_repeat_ngram_size = parameters.value("no_repeat_ngram_size", 0);
  spec.suppress_tokens = parameters.value("suppress_tokens", std::vector<int32_t>());
  spec.min_length = parameters.value("min_length", 0);
  spec.remove_invalid_values = parameters.value("remove_invalid_values", false);
  spec.renormalize_logits = parameters.value("renormalize_logits", false);
  for (const json& bias : parameters.value("sequence_bias", json::array())) {
    spec.biased_sequences.Add(bias.at(0).get<std::vector<int32_t>>());
    spec.sequence_bias.push_back(bias.at(1));
  }
  for (const json& word : parameters.value("bad_words_ids", json::array())) {
    spec.bad_words_ids.Add(word.get<std::vector<int32_t>>());
  }
  if (const auto decay = parameters.find("exponential_decay_length_penalty"); decay != parameters.end()) {
    spec.exponential_decay_length_penalty = {.start_index = decay->at(0), .factor = decay->at(1)};
  }
  return spec;
}

void ExpectProbabilities(const json& c, const Distribution& distribution) {
  std::map<int32_t, double> expected;
  for (const json& pair : c["probabilities"]) expected[pair.at(0)] = pair.at(1);
  ASSERT_EQ(distribution.tokens().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const int32_t token = distribution.tokens()[i];
    ASSERT_TRUE(expected.contains(token)) << token;
    EXPECT_NEAR(distribution.weights()[i] / distribution.total(), expected[token], 1e-5) << token;
  }
}

TEST(DistributionTest, IsThatOfTransformers) {
  const json cases = json::parse(std::ifstream(ELSERVE_SOURCE_DIR "/tests/engine/search/sampling_cases.json"));
  ASSERT_GT(cases.size(), 140u);
  int few = 0;
  for (const json& c : cases) {
    SCOPED_TRACE(c["parameters"].dump());
    const DecodingSpec spec = SpecOf(c["parameters"]);
    const auto source = c["source"].get<std::vector<int32_t>>(), tokens = c["tokens"].get<std::vector<int32_t>>();
    EditBuffer edits(2 * MaxEditsPerRow(spec, static_cast<int>(source.size())));
    const RowRules rules = RulesFor(spec, source, tokens, edits);
    EXPECT_EQ(rules.whole, NeedsWholeRows(spec));
    const std::vector<float> logits = LogitsOf(c);
    RowValues values;
    ASSERT_TRUE(values.Set(logits, rules));
    Distribution distribution;
    distribution.Load(values.values());
    distribution.Warp(spec.sampling);
    ExpectProbabilities(c, distribution);
    if (rules.whole) continue;
    // The best candidates do as well.
    ++few;
    std::vector<Candidate> candidates;
    values.Best(rules.count, &candidates);
    distribution.Load(candidates);
    distribution.Warp(spec.sampling);
    ExpectProbabilities(c, distribution);
  }
  EXPECT_GT(few, 20);
}

Distribution Warped(const std::vector<float>& values, const Sampling& sampling) {
  Distribution distribution;
  distribution.Load(values);
  distribution.Warp(sampling);
  return distribution;
}

TEST(DistributionTest, AsLikelyAsTheLastOfTopKStays) {
  EXPECT_THAT(Warped({1, 3, 2, 3, 2, 0}, {.top_k = 3}).tokens(), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Warped({1, 3, 2, 3, 2, 0}, {.top_k = 2}).tokens(), ElementsAre(1, 3));
}

TEST(DistributionTest, OfEquallyLikelyTokensTheLowerStays) {
  EXPECT_THAT(Warped({1, 1, 1, 1}, {.top_p = 0.5}).tokens(), ElementsAre(0, 1));
  EXPECT_THAT(Warped({1, 1, 1, 1}, {.top_p = 0.0}).tokens(), ElementsAre(0));
}

TEST(DistributionTest, SomethingIsAlwaysLeft) {
  const std::vector<float> banned(7, -kInfinity);
  const Sampling all = {.temperature = 1e-5f,
                        .top_h = 0.001,
                        .top_k = 1,
                        .top_p = 0,
                        .min_p = 1,
                        .typical_p = 0.001,
                        .epsilon_cutoff = 0.999,
                        .eta_cutoff = 0.999};
  EXPECT_THAT(Warped(banned, all).tokens(), ElementsAre(0));
  EXPECT_THAT(Warped({-kInfinity, 1e30f, -3e38f, 3e38f}, all).tokens(), ElementsAre(3));
  EXPECT_EQ(Warped({3.4e38f, -3.4e38f, 3.4e38f}, {.temperature = 0.01f, .typical_p = 0.9}).total(), 2);
  Distribution distribution;
  const std::vector<Candidate> candidates = {{.token = 4, .value = -kInfinity, .logprob = -1}};
  distribution.Load(candidates);
  distribution.Warp(all);
  EXPECT_EQ(distribution.Draw(0.99), 4);
}

TEST(DistributionTest, DrawsTheTokenWhoseShareThePlaceIsIn) {
  const auto distribution = Warped({std::log(1.0f), -kInfinity, std::log(2.0f), std::log(5.0f)}, {});
  EXPECT_EQ(distribution.Draw(0), 0);
  EXPECT_EQ(distribution.Draw(0.1249), 0);
  EXPECT_EQ(distribution.Draw(0.1251), 2);
  EXPECT_EQ(distribution.Draw(0.3749), 2);
  EXPECT_EQ(distribution.Draw(0.3751), 3);
  EXPECT_EQ(distribution.Draw(1 - 0x1p-53), 3);
}

TEST(RowSumsTest, ExpIsCloseAndEndsAtNothing) {
  for (float x = 0; x > -87; x -= 0.0137f) {
    EXPECT_NEAR(ExpOfNegative(x) / std::exp(static_cast<double>(x)), 1, 2e-7) << x;
  }
  EXPECT_EQ(ExpOfNegative(0), 1);
  EXPECT_EQ(ExpOfNegative(-87.5f), 0);
  EXPECT_EQ(ExpOfNegative(-kInfinity), 0);
}

TEST(RowSumsTest, SumsAndGreatestOfAnyLength) {
  for (size_t size = 1; size < 1100; size += size < 40 ? 1 : 97) {
    std::vector<float> values(size);
    for (size_t i = 0; i < size; ++i) values[i] = static_cast<float>(Mix(i) % 1000) / 100 - 20;
    const float greatest = *std::max_element(values.begin(), values.end());
    EXPECT_EQ(GreatestOf(values), greatest);
    EXPECT_EQ(LeastOf(values), *std::min_element(values.begin(), values.end()));
    double sum = 0;
    for (const float value : values) sum += std::exp(static_cast<double>(value) - greatest);
    EXPECT_NEAR(SumOfExp(values, greatest) / sum, 1, 1e-6) << size;
  }
}

// A row whose values are ranked, log-probabilities or not.
RowRules Rules(bool log_probs, bool remove_invalid = false) {
  RowRules rules;
  rules.log_probs = log_probs;
  rules.whole = true;
  rules.remove_invalid = remove_invalid;
  return rules;
}

TEST(RowValuesTest, LogitsThatAreNotFiniteFailUnlessTheyAreRemoved) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), most = std::numeric_limits<float>::max();
  const std::vector<float> bad = {1, nan, -kInfinity, 3, kInfinity};
  RowValues values;
  EXPECT_FALSE(values.Set(bad, Rules(false)));
  EXPECT_FALSE(values.Set(std::vector<float>{1, kInfinity}, Rules(false)));
  EXPECT_FALSE(values.Set(std::vector<float>(40, -kInfinity), Rules(true)));
  EXPECT_TRUE(values.Set(std::vector<float>{1, -kInfinity}, Rules(false)));
  ASSERT_TRUE(values.Set(bad, Rules(false, true)));
  EXPECT_THAT(values.values(), ElementsAre(1, 0, -most, 3, most));
  // log_softmax of such a row is NaN everywhere.
  ASSERT_TRUE(values.Set(bad, Rules(true, true)));
  EXPECT_THAT(values.values(), ElementsAre(0, 0, 0, 0, 0));
}

TEST(RowValuesTest, BansBecomeTheLeastNumberAndLateEditsFollow) {
  const float most = std::numeric_limits<float>::max();
  const std::vector<LogitEdit> edits = {{.token = 0, .ban = true}, {.token = 1, .ban = true}, {.token = 2, .add = 1}};
  const std::vector<LogitEdit> late = {{.token = 1, .ban = true}, {.token = 2, .negative = 1, .positive = 0.5f}};
  RowRules rules = Rules(false, true);
  rules.edits = edits;
  rules.late_edits = late;
  RowValues values;
  ASSERT_TRUE(values.Set(std::vector<float>{5, 6, 7}, rules));
  EXPECT_THAT(values.values(), ElementsAre(-most, -kInfinity, 4));
}

TEST(RowValuesTest, BestAreInOrderAndRenormalizedOnesSumToOne) {
  RowValues values;
  const std::vector<float> logits = {1, 3, 2, 3, -1};
  ASSERT_TRUE(values.Set(logits, Rules(true)));
  std::vector<Candidate> best;
  values.Best(3, &best);
  ASSERT_EQ(best.size(), 3u);
  EXPECT_EQ(best[0].token, 1);
  EXPECT_EQ(best[1].token, 3);
  EXPECT_EQ(best[2].token, 2);
  EXPECT_EQ(best[0].value, values.LogProb(1));
  values.Best(9, &best);
  EXPECT_EQ(best.size(), 5u);
  RowRules rules = Rules(true);
  const std::vector<LogitEdit> edits = {{.token = 1, .ban = true}};
  rules.edits = edits;
  ASSERT_TRUE(values.Set(logits, rules));
  values.Renormalize();
  double sum = 0;
  for (const float value : values.values()) sum += std::exp(value);
  EXPECT_NEAR(sum, 1, 1e-6);
}

}  // namespace
}  // namespace elserve
