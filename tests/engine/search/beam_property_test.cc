// Random searches against a plain transcription of transformers' search over whole rows: num_beams + number of EOS ids
// candidates a row give the same beams, answers and scores as max(2, 1 + number of EOS ids) * num_beams over all rows.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "engine/search/rules.h"
#include "engine/search/search.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/search/reference_search.h"

namespace elserve {
namespace {

using ::testing::ElementsAreArray;

struct Case {
  DecodingSpec spec;
  LogitsFunction logits;
};

template <typename T>
T Pick(std::mt19937_64& random, std::initializer_list<T> from) {
  return from.begin()[random() % from.size()];
}

int Between(std::mt19937_64& random, int low, int high) {
  return low + static_cast<int>(random() % static_cast<uint64_t>(high - low + 1));
}

// Logits are a function of the tokens alone, as a model's are.
LogitsFunction RandomModel(std::mt19937_64& random, int vocab, const std::vector<int32_t>& eos) {
  const uint64_t seed = random();
  const float spread = Pick(random, {0.1f, 1.0f, 4.0f, 30.0f});
  const float eos_bonus = Pick(random, {-3.0f, 0.0f, 2.0f, 5.0f}) * spread / 3;
  const int levels = Pick(random, {3, 1 << 20});  // of three levels many are equal
  const bool holes = random() % 8 == 0;           // some logits are -infinity
  return [=](std::span<const int32_t> tokens) {
    uint64_t hash = seed;
    for (int32_t token : tokens) hash = (hash ^ static_cast<uint64_t>(token + 1)) * 0x9E3779B97F4A7C15u + (hash >> 29);
    std::mt19937_64 draw(hash);
    std::vector<float> logits;
    for (int token = 0; token < vocab; ++token) {
      float x = spread * (static_cast<float>(draw() % static_cast<uint64_t>(levels)) / static_cast<float>(levels));
      if (std::find(eos.begin(), eos.end(), token) != eos.end()) x += eos_bonus;
      // The first token stays possible: a row of nothing but -infinity has no log-softmax.
      if (holes && token > 0 && draw() % 3 == 0) x = -std::numeric_limits<float>::infinity();
      logits.push_back(x);
    }
    return logits;
  };
}

Case RandomCase(std::mt19937_64& random) {
  Case c;
  DecodingSpec& spec = c.spec;
  spec.num_beams = Between(random, 1, 8);
  spec.num_return_sequences = Between(random, 1, spec.num_beams);
  spec.length_penalty = Pick(random, {-2.0f, -1.0f, -0.5f, 0.0f, 0.3f, 0.8f, 1.0f, 1.5f, 2.0f, 5.0f});
  spec.early_stopping = Pick(random, {EarlyStopping::kFalse, EarlyStopping::kTrue, EarlyStopping::kNever});
  spec.max_length = Between(random, 2, 12);
  const int eos_ids = Pick(random, {0, 1, 1, 1, 2, 4});
  const int vocab = Between(random, std::max(2, 1 + eos_ids), Pick(random, {8, 40}));
  for (int i = 0; i < eos_ids; ++i) spec.eos_token_id.push_back(Between(random, 0, vocab - 1));  // perhaps one twice
  if (random() % 3 == 0) spec.min_length = Between(random, 0, spec.max_length + 1);
  if (random() % 3 == 0) spec.min_new_tokens = Between(random, 0, spec.max_length);
  if (random() % 2 == 0) spec.no_repeat_ngram_size = Between(random, 1, 4);
  const int prefix = random() % 2 == 0 ? 1 : Between(random, 1, std::min(5, spec.max_length - 1));
  spec.prefix.clear();
  for (int i = 0; i < prefix; ++i) spec.prefix.push_back(Between(random, 0, vocab - 1));
  if (random() % 4 == 0) spec.forced_bos_token_id = Between(random, 0, vocab - 1);
  if (random() % 4 == 0) spec.forced_eos_token_id = {Between(random, 0, vocab - 1)};
  if (random() % 16 == 0) spec.forced_eos_token_id.push_back(Between(random, 0, vocab - 1));
  c.logits = RandomModel(random, vocab, spec.eos_token_id);
  return c;
}

void Step(SearchState& state, EditBuffer& edits, const LogitsFunction& logits) {
  edits.Clear();
  std::vector<std::vector<Candidate>> candidates;
  for (int row = 0; row < state.rows(); ++row) {
    const RowRules rules = RulesFor(state.spec(), state.source(), state.tokens(row), edits);
    ASSERT_LE(static_cast<int64_t>(rules.edits.size()), MaxEditsPerRow(state.spec(), 0));
    candidates.push_back(SelectCandidates(logits(state.tokens(row)), rules));
  }
  std::vector<DecodedRow> decoded;
  for (const std::vector<Candidate>& row : candidates) decoded.push_back({row});
  RowWorkspace workspace;
  state.Advance(decoded, workspace);
}

std::vector<int32_t> Tokens(std::span<const int32_t> tokens) { return {tokens.begin(), tokens.end()}; }

bool SameBits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// The state's rows are the distinct running beams of the reference, in the order of their best beam.
void ExpectRows(const SearchState& state, const std::vector<ReferenceHypothesis>& running) {
  std::vector<std::vector<int32_t>> expected, rows;
  for (const ReferenceHypothesis& beam : running) {
    if (std::find(expected.begin(), expected.end(), beam.tokens) == expected.end()) expected.push_back(beam.tokens);
  }
  for (int row = 0; row < state.rows(); ++row) rows.push_back(Tokens(state.tokens(row)));
  ASSERT_EQ(rows, expected);
}

void ExpectAnswers(const SearchState& state, const ReferenceResult& expected, const LogitsFunction& logits) {
  std::vector<Hypothesis> answers;
  state.Finalize(&answers);
  ASSERT_EQ(answers.size(), expected.hypotheses.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    std::vector<int32_t> prefix = state.spec().prefix;
    ASSERT_EQ(answers[i].logprobs.size(), answers[i].tokens.size());
    for (size_t t = 0; t < answers[i].tokens.size(); ++t) {
      ASSERT_EQ(answers[i].logprobs[t], LogSoftmax(logits(prefix))[answers[i].tokens[t]]);
      prefix.push_back(answers[i].tokens[t]);
    }
    ASSERT_EQ(prefix, expected.hypotheses[i].tokens) << "answer " << i;
    ASSERT_TRUE(SameBits(answers[i].score, expected.hypotheses[i].score))
        << answers[i].score << " instead of " << expected.hypotheses[i].score;
    const std::vector<int32_t>& eos = state.spec().eos_token_id;
    const bool ends = std::find(eos.begin(), eos.end(), prefix.back()) != eos.end();
    ASSERT_EQ(answers[i].reason, ends ? FinishReason::kEos : FinishReason::kLength);
  }
}

TEST(BeamPropertyTest, SameAsSearchOverWholeRows) {
  std::mt19937_64 random(7);
  EditBuffer edits(4096);
  Search search;
  int64_t steps = 0, several_rows = 0;
  for (int i = 0; i < 25000; ++i) {
    const Case c = RandomCase(random);
    const ReferenceResult expected = ReferenceSearch(c.spec, c.logits);
    SCOPED_TRACE(::testing::Message() << "case " << i);
    search.Start(c.spec);
    SearchState& state = search.state();
    for (int step = 0; step < expected.steps; ++step) {
      ASSERT_FALSE(state.done()) << "after " << step << " of " << expected.steps << " steps";
      std::vector<std::vector<int32_t>> before;
      for (int row = 0; row < state.rows(); ++row) before.push_back(Tokens(state.tokens(row)));
      ASSERT_NO_FATAL_FAILURE(Step(state, edits, c.logits));
      ASSERT_NO_FATAL_FAILURE(ExpectRows(state, expected.running[step]));
      for (int row = 0; row < state.rows(); ++row) {
        const std::vector<int32_t>& parent = before[state.parents()[row]];
        ASSERT_THAT(parent, ElementsAreArray(state.tokens(row).first(parent.size())));
        ASSERT_EQ(state.last_token(row), state.tokens(row)[parent.size()]);
      }
      ++steps;
      several_rows += state.rows() > 1;
    }
    ASSERT_TRUE(state.done());
    ASSERT_NO_FATAL_FAILURE(ExpectAnswers(state, expected, c.logits));
  }
  // The cases are worth something: they run for several steps, most of them with several rows.
  EXPECT_GT(steps, 80000);
  EXPECT_GT(several_rows, steps / 2);
}

TEST(BeamPropertyTest, StreamedTokensAreNeverTakenBack) {
  std::mt19937_64 random(11);
  EditBuffer edits(4096);
  Search search;
  int64_t early_tokens = 0, all_tokens = 0;
  for (int i = 0; i < 10000; ++i) {
    const Case c = RandomCase(random);
    SCOPED_TRACE(::testing::Message() << "case " << i);
    search.Start(c.spec);
    SearchState& state = search.state();
    std::vector<int32_t> streamed;
    std::vector<Hypothesis> answers;
    while (!state.done()) {
      ASSERT_NO_FATAL_FAILURE(Step(state, edits, c.logits));
      const std::vector<int32_t> whole = Tokens(state.StablePrefix(0));
      const std::vector<int32_t> news = Tokens(state.StablePrefix(static_cast<int>(streamed.size())));
      if (!state.done()) early_tokens += static_cast<int64_t>(news.size());
      streamed.insert(streamed.end(), news.begin(), news.end());
      ASSERT_EQ(streamed, whole);
      // Whoever ends the sequence here gets an answer that continues what was streamed.
      state.Finalize(&answers);
      ASSERT_FALSE(answers.empty());
      ASSERT_GE(answers[0].tokens.size(), streamed.size());
      ASSERT_TRUE(std::equal(streamed.begin(), streamed.end(), answers[0].tokens.begin()));
    }
    ASSERT_EQ(answers[0].tokens, streamed);
    all_tokens += static_cast<int64_t>(streamed.size());
  }
  EXPECT_GT(early_tokens, all_tokens / 3) << "streams that come at the end only";
}

TEST(BeamPropertyTest, EndedEarlyIsSortedAndBounded) {
  std::mt19937_64 random(13);
  EditBuffer edits(4096);
  Search search;
  for (int i = 0; i < 5000; ++i) {
    const Case c = RandomCase(random);
    SCOPED_TRACE(::testing::Message() << "case " << i);
    search.Start(c.spec);
    SearchState& state = search.state();
    std::vector<Hypothesis> answers(1);
    state.Finalize(&answers);
    ASSERT_TRUE(answers.empty());
    while (true) {
      ASSERT_NO_FATAL_FAILURE(Step(state, edits, c.logits));
      if (state.done()) break;
      state.Finalize(&answers);
      ASSERT_GE(answers.size(), 1u);
      ASSERT_LE(answers.size(), static_cast<size_t>(c.spec.num_return_sequences));
      for (size_t a = 1; a < answers.size(); ++a) {
        ASSERT_GE(answers[a - 1].score, answers[a].score);
        // Dead beams (a forced first token that is an EOS) end with the tokens of live ones, in transformers too.
        const float length = static_cast<float>(answers[a].tokens.size());
        if (answers[a].score * std::pow(length, c.spec.length_penalty) > -5e8f) {
          ASSERT_NE(answers[a - 1].tokens, answers[a].tokens);
        }
      }
    }
  }
}

}  // namespace
}  // namespace elserve
