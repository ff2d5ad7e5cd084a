// Searches that transformers ran on logits which both sides compute alike (make_transformers_cases.py).
#include <cmath>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "engine/search/rules.h"
#include "engine/search/search.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/engine/search/reference_search.h"

namespace elserve {
namespace {

using Json = nlohmann::json;

uint64_t Mix(uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

std::vector<float> LogitsAfter(const Json& c, std::span<const int32_t> tokens) {
  const std::vector<int32_t> eos = c["eos_token_id"];
  const float spread = c["spread"], eos_bonus = c["eos_bonus"];
  uint64_t hash = c["seed"];
  for (int32_t token : tokens) hash = Mix(hash ^ static_cast<uint64_t>(token + 1));
  std::vector<float> logits;
  for (int token = 0; token < c["vocab"].get<int>(); ++token) {
    float x = static_cast<float>(Mix(hash ^ static_cast<uint64_t>(1000 + token)) % 4096) / 4096 * spread;
    if (std::find(eos.begin(), eos.end(), token) != eos.end()) x += eos_bonus;
    logits.push_back(x);
  }
  return logits;
}

DecodingSpec SpecOf(const Json& c) {
  DecodingSpec spec;
  spec.num_beams = c["num_beams"];
  spec.num_return_sequences = c["num_return_sequences"];
  spec.length_penalty = c["length_penalty"];
  const Json& early = c["early_stopping"];
  spec.early_stopping = early.is_string()   ? EarlyStopping::kNever
                        : early.get<bool>() ? EarlyStopping::kTrue
                                            : EarlyStopping::kFalse;
  spec.max_length = c["max_length"];
  spec.min_length = c["min_length"];
  spec.min_new_tokens = c["min_new_tokens"];
  spec.no_repeat_ngram_size = c["no_repeat_ngram_size"];
  spec.prefix = {c["decoder_start_token_id"].get<int32_t>()};
  spec.forced_bos_token_id = c["forced_bos_token_id"];
  spec.forced_eos_token_id = c["forced_eos_token_id"].get<std::vector<int32_t>>();
  spec.eos_token_id = c["eos_token_id"].get<std::vector<int32_t>>();
  return spec;
}

std::vector<Hypothesis> AnswersOf(const Json& c) {
  const DecodingSpec spec = SpecOf(c);
  EditBuffer edits(MaxEdits(spec, 0));
  Search search;
  search.Start(spec);
  SearchState& state = search.state();
  while (!state.done()) {
    edits.Clear();
    std::vector<std::vector<Candidate>> rows;
    for (int row = 0; row < state.rows(); ++row) {
      const RowRules rules = RulesFor(state.spec(), state.source(), state.tokens(row), edits);
      rows.push_back(SelectCandidates(LogitsAfter(c, state.tokens(row)), rules));
    }
    std::vector<DecodedRow> decoded;
    for (const std::vector<Candidate>& row : rows) decoded.push_back({row});
    RowWorkspace workspace;
    state.Advance(decoded, workspace);
  }
  std::vector<Hypothesis> answers;
  state.Finalize(&answers);
  return answers;
}

TEST(TransformersTest, SameSequencesAndScores) {
  std::ifstream file(std::string(ELSERVE_SOURCE_DIR) + "/tests/engine/search/transformers_cases.json");
  ASSERT_TRUE(file.is_open());
  const Json cases = Json::parse(file)["cases"];
  ASSERT_GE(cases.size(), 200u);
  for (const Json& c : cases) {
    SCOPED_TRACE(c.dump());
    const std::vector<Hypothesis> answers = AnswersOf(c);
    ASSERT_EQ(answers.size(), c["sequences"].size());
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(answers[i].tokens, c["sequences"][i].get<std::vector<int32_t>>());
      // Log-softmax may round differently here; the search adds nothing to that.
      const float score = c["scores"][i];
      EXPECT_NEAR(answers[i].score, score, 2e-6 * std::max(1.0f, std::fabs(score)));
    }
  }
}

}  // namespace
}  // namespace elserve
