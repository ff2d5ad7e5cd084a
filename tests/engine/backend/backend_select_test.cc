// SelectTokens on every backend under test.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/backend/reference/reference_backend.h"
#include "tests/engine/backend/backends_under_test.h"
#include "tests/engine/backend/operation_check.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Answer {
  bool finite = true;
  std::vector<Candidate> candidates = {};
  std::vector<float> logits = {};
};

// What a row asks; position is set when a step is made.
struct Ask {
  SelectSpace space = SelectSpace::kLogProbs;
  int count = 1;
  std::vector<int32_t> force = {};
  std::vector<LogitEdit> edits = {};
  bool renormalize = false;
  bool whole = false;
};

struct Problem {
  int vocab = 0;
  int d = 0;
  std::vector<float> weight;  // [vocab, d]
  std::vector<float> bias;    // [vocab]; empty: none
  std::vector<float> states;  // [rows, d]
  std::vector<Ask> asks;      // of each row
};

// Packed and allocated in one backend.
class SelectSession {
 public:
  SelectSession(std::unique_ptr<Backend> backend, const Problem& problem)
      : session_(std::move(backend), DataType::kFloat32), problem_(problem) {
    const auto rows = static_cast<int>(problem.asks.size());
    session_.AllocatePlainMemory(2 * rows);
    input_ = session_.Allocate(2 * rows, problem.d, Storage::kState);
    const HostTensor bias = View(problem.bias, {problem.vocab});
    weight_ = session_.backend().PackLinear(View(problem.weight, {problem.vocab, problem.d}),
                                            problem.bias.empty() ? nullptr : &bias);
  }

  // A step of these rows. `spread`: each has a position before it that nothing is selected from.
  std::vector<Answer> Run(const std::vector<int>& rows, bool spread) {
    const int per_row = spread ? 2 : 1;
    OwnedStep step = PlainStep(Phase::kDecode, static_cast<int>(rows.size()) * per_row);
    std::vector<float> states;
    for (int row : rows) {
      const auto begin = problem_.states.begin() + int64_t{row} * problem_.d;
      if (spread) states.insert(states.end(), problem_.d, 3.0f);
      states.insert(states.end(), begin, begin + problem_.d);
      const Ask& ask = problem_.asks[row];
      step.select.push_back({.position = static_cast<int32_t>(states.size() / problem_.d - 1),
                             .space = ask.space,
                             .count = ask.count,
                             .force = ask.force,
                             .edits = ask.edits,
                             .renormalize = ask.renormalize,
                             .whole = ask.whole});
    }
    session_.backend().BeginStep(step.Layout());
    session_.backend().Write(input_, states);
    // Of two answers in one step the last one counts.
    for (int i = 0; i < per_row; ++i)
      session_.backend().SelectTokens({.phase = Phase::kDecode, .input = input_, .weight = weight_.get()});
    const auto selected = session_.backend().Selected();
    std::vector<Answer> answers;
    if (!selected.ok()) {
      ADD_FAILURE() << selected.status();
      return answers;
    }
    for (const SelectedRow& row : *selected) {
      answers.push_back({.finite = row.finite,
                         .candidates = {row.candidates.begin(), row.candidates.end()},
                         .logits = {row.logits.begin(), row.logits.end()}});
    }
    return answers;
  }

 private:
  Session session_;
  const Problem& problem_;
  Tensor input_;
  PackedWeightPtr weight_;
};

bool Near(float a, float b, double tolerance) {
  if (a == b) return true;  // infinities too
  return std::abs(static_cast<double>(a) - b) <= tolerance * std::max(1.0, std::abs(static_cast<double>(a)));
}

// Best first, the lower id first among equals, no token twice.
void ExpectOrder(const std::vector<Candidate>& candidates) {
  std::set<int32_t> tokens;
  for (size_t i = 0; i < candidates.size(); ++i) {
    EXPECT_TRUE(tokens.insert(candidates[i].token).second) << "token " << candidates[i].token << " twice";
    if (i == 0) continue;
    const Candidate& better = candidates[i - 1];
    EXPECT_TRUE(better.value > candidates[i].value ||
                (better.value == candidates[i].value && better.token < candidates[i].token))
        << "at " << i;
  }
}

// The same values place by place, and the same value and logprob for each token. A token may be missing from the
// reference's list only where its value is as good as tied with the list's last.
void ExpectNear(const Answer& expected, const Answer& actual, int vocab, int count, double tolerance) {
  ASSERT_EQ(actual.finite, expected.finite);
  if (!expected.finite) return;
  ASSERT_EQ(actual.logits.size(), expected.logits.size());
  for (size_t token = 0; token < expected.logits.size(); ++token) {
    const float is = actual.logits[token], wanted = expected.logits[token];
    ASSERT_TRUE(Near(wanted, is, tolerance) || (std::isnan(wanted) && std::isnan(is)))
        << "logit " << token << ": expected " << wanted << ", got " << is;
  }
  if (!expected.logits.empty()) {
    EXPECT_TRUE(actual.candidates.empty());
    return;
  }
  ASSERT_EQ(actual.candidates.size(), static_cast<size_t>(std::min(count, vocab)));
  ExpectOrder(actual.candidates);
  for (size_t i = 0; i < actual.candidates.size(); ++i) {
    const Candidate& candidate = actual.candidates[i];
    EXPECT_TRUE(Near(expected.candidates[i].value, candidate.value, tolerance))
        << "place " << i << ": expected " << expected.candidates[i].value << ", got " << candidate.value;
    const auto same = std::find_if(expected.candidates.begin(), expected.candidates.end(),
                                   [&](const Candidate& other) { return other.token == candidate.token; });
    if (same == expected.candidates.end()) {
      EXPECT_TRUE(Near(expected.candidates.back().value, candidate.value, tolerance)) << "token " << candidate.token;
      continue;
    }
    EXPECT_TRUE(Near(same->value, candidate.value, tolerance)) << "value of token " << candidate.token;
    EXPECT_TRUE(Near(same->logprob, candidate.logprob, tolerance))
        << "logprob of token " << candidate.token << ": " << same->logprob << ", got " << candidate.logprob;
  }
}

void ExpectSame(const Answer& expected, const Answer& actual) {
  ASSERT_EQ(actual.finite, expected.finite);
  if (!expected.finite) return;
  ASSERT_EQ(actual.logits.size(), expected.logits.size());
  EXPECT_EQ(BitDifference(expected.logits, actual.logits), "");
  ASSERT_EQ(actual.candidates.size(), expected.candidates.size());
  for (size_t i = 0; i < expected.candidates.size(); ++i) {
    EXPECT_EQ(actual.candidates[i].token, expected.candidates[i].token) << "place " << i;
    const float values[] = {expected.candidates[i].value, expected.candidates[i].logprob};
    const float others[] = {actual.candidates[i].value, actual.candidates[i].logprob};
    EXPECT_EQ(BitDifference(values, others), "") << "place " << i;
  }
}

// Of values and logprobs, relative to their size or 1. Logits are float32 sums in every precision.
constexpr double kTolerance = 2e-5;

void CheckBackend(const Problem& problem, const BackendUnderTest& under_test, const std::vector<Answer>& expected,
                  bool same_tokens) {
  SCOPED_TRACE(under_test.name);
  std::unique_ptr<Backend> backend = under_test.make();
  ASSERT_NE(backend, nullptr);
  SelectSession session(std::move(backend), problem);
  std::vector<int> all(problem.asks.size());
  std::iota(all.begin(), all.end(), 0);
  const std::vector<Answer> actual = session.Run(all, false);
  ASSERT_EQ(actual.size(), expected.size());
  for (int row : all) {
    SCOPED_TRACE("row " + std::to_string(row));
    ExpectNear(expected[row], actual[row], problem.vocab, problem.asks[row].count, kTolerance);
    if (testing::Test::HasFailure()) return;
    for (size_t i = 0; same_tokens && expected[row].finite && i < expected[row].candidates.size(); ++i) {
      EXPECT_EQ(actual[row].candidates[i].token, expected[row].candidates[i].token) << "place " << i;
    }
    if (testing::Test::HasFailure()) return;
  }
  std::vector<std::vector<int>> batches = RandomBatches(1, static_cast<int>(all.size()));
  batches.push_back(all);
  for (const std::vector<int>& batch : batches) {
    SCOPED_TRACE("in a step of " + std::to_string(batch.size()));
    const std::vector<Answer> answers = session.Run(batch, /*spread=*/batch.size() % 2 == 1);
    ASSERT_EQ(answers.size(), batch.size());
    for (size_t i = 0; i < batch.size(); ++i) ExpectSame(actual[batch[i]], answers[i]);
    if (testing::Test::HasFailure()) return;
  }
}

// `same_tokens`: sums are exact in any order, so that the tokens have to be the reference's, ties included.
void CheckSelect(Problem problem, bool same_tokens = false) {
  for (DataType precision : {DataType::kFloat32, DataType::kBFloat16}) {
    if (precision == DataType::kBFloat16) {
      for (auto* values : {&problem.weight, &problem.bias, &problem.states}) {
        for (float& value : *values) value = RoundedToBFloat16(value);
      }
    }
    std::vector<Answer> expected;
    for (const BackendUnderTest& under_test : BackendsUnderTest()) {
      if (under_test.state_type != precision) continue;
      if (expected.empty()) {
        SelectSession reference(MakeReferenceBackend(), problem);
        std::vector<int> all(problem.asks.size());
        std::iota(all.begin(), all.end(), 0);
        expected = reference.Run(all, false);
      }
      CheckBackend(problem, under_test, expected, same_tokens);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Logits that spread by about 4, as a trained model's do.
Problem RandomProblem(uint32_t seed, int vocab, int d, int rows) {
  return {.vocab = vocab,
          .d = d,
          .weight = RandomValues(seed, int64_t{vocab} * d, 4 / std::sqrt(static_cast<float>(d))),
          .bias = RandomValues(seed + 1, vocab, 0.5f),
          .states = RandomValues(seed + 2, int64_t{rows} * d, 1.0f),
          .asks = std::vector<Ask>(rows)};
}

Ask RandomAsk(std::mt19937& engine, int vocab) {
  const auto below = [&](int n) { return static_cast<int>(engine() % static_cast<uint32_t>(n)); };
  Ask ask;
  ask.space = below(2) == 0 ? SelectSpace::kLogProbs : SelectSpace::kLogits;
  const int counts[] = {1, 2, 5, 9, 33, kMaxCandidates};
  ask.count = counts[below(6)];
  if (below(4) == 0) {
    for (int i = 1 + below(3); i > 0; --i) ask.force.push_back(below(vocab));
  }
  std::set<int32_t> edited;
  const int edit_counts[] = {0, 0, 1, 3, 40};
  for (int i = edit_counts[below(5)]; i > 0; --i) {
    const int32_t token = below(vocab);
    // One token of the vocabulary at least is left, so that renormalizing has a meaning.
    if (static_cast<int>(edited.size()) + 1 >= vocab || !edited.insert(token).second) continue;
    switch (below(4)) {
      case 0:
        ask.edits.push_back({.token = token, .ban = true});
        break;
      case 1:
        ask.edits.push_back({.token = token, .add = static_cast<float>(below(9) - 4)});
        break;
      case 2:
        ask.edits.push_back({.token = token, .negative = 1.5f, .positive = 0.75f});
        break;
      default:
        ask.edits.push_back({.token = token, .add = 1.25f, .negative = -0.5f, .positive = 1.25f});
    }
  }
  std::ranges::sort(ask.edits, {}, &LogitEdit::token);
  ask.renormalize = ask.force.empty() && below(3) == 0;
  ask.whole = below(5) == 0;
  return ask;
}

TEST(BackendSelect, EveryVocabularyAndManyAsks) {
  const struct {
    int vocab, d, rows;
  } cases[] = {{1, 8, 5}, {7, 8, 65}, {211, 40, 70}, {211, 768, 17}, {1000, 96, 66}, {1009, 200, 33}, {50265, 64, 18}};
  for (const auto& c : cases) {
    SCOPED_TRACE("vocabulary " + std::to_string(c.vocab) + " d " + std::to_string(c.d));
    Problem problem = RandomProblem(80, c.vocab, c.d, c.rows);
    std::mt19937 engine(81);
    for (Ask& ask : problem.asks) ask = RandomAsk(engine, c.vocab);
    CheckSelect(problem);
    if (HasFailure()) return;
  }
}

TEST(BackendSelect, WholeRowsAreTheLogitsAsTheyAre) {
  Problem problem = RandomProblem(86, 1000, 64, 5);
  problem.bias[7] = -kInfinity;
  problem.bias[8] = kInfinity;
  problem.bias[9] = std::numeric_limits<float>::quiet_NaN();
  for (Ask& ask : problem.asks) ask = {.edits = {{.token = 3, .ban = true}}, .whole = true};
  CheckSelect(problem);
}

TEST(BackendSelect, WithoutBias) {
  Problem problem = RandomProblem(82, 211, 40, 3);
  problem.bias.clear();
  for (Ask& ask : problem.asks) ask.count = 4;
  CheckSelect(problem);
}

TEST(BackendSelect, EachRowMayAskDifferently) {
  Problem problem = RandomProblem(83, 1000, 64, 6);
  problem.asks[0] = {.space = SelectSpace::kLogits, .count = 1};
  problem.asks[1] = {.space = SelectSpace::kLogProbs, .count = kMaxCandidates};
  problem.asks[2] = {.count = 3, .force = {17}};
  problem.asks[3] = {.count = 5, .force = {999, 3}, .edits = {{.token = 3, .ban = true}}};
  problem.asks[4] = {.count = 4, .edits = {{.token = 0, .add = 30.0f}}, .renormalize = true};
  problem.asks[5] = {.space = SelectSpace::kLogits, .count = 2, .force = {5}, .renormalize = true};
  CheckSelect(problem);
}

// Small whole numbers have exact sums in any order, and many equal logits.
TEST(BackendSelect, EqualValuesGoToTheLowerToken) {
  for (int vocab : {7, 211, 5000}) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocab));
    Problem problem = RandomProblem(84, vocab, 24, 17);
    std::mt19937 engine(85);
    const auto whole = [&](std::vector<float>& values) {
      for (float& value : values) value = static_cast<float>(static_cast<int>(engine() % 3) - 1);
    };
    whole(problem.weight);
    whole(problem.bias);
    whole(problem.states);
    const int counts[] = {1, 2, 8, 33, kMaxCandidates};
    for (size_t row = 0; row < problem.asks.size(); ++row) {
      problem.asks[row] = {.space = row % 2 == 0 ? SelectSpace::kLogits : SelectSpace::kLogProbs,
                           .count = counts[row % 5]};
    }
    problem.asks[3].force = {6, 2, 4};
    // All logits equal.
    std::fill_n(problem.states.begin(), 24, 0.0f);
    std::fill(problem.bias.begin(), problem.bias.end(), 1.0f);
    CheckSelect(problem, /*same_tokens=*/true);
    if (HasFailure()) return;
  }
}

// Log-probabilities do not depend on a number that all logits share: the exponentials must not overflow, and x - max
// has to be taken before log(sum) is, or float32 loses digits next to the shared number.
TEST(BackendSelect, LargeLogitsLoseNoDigits) {
  for (float shared : {1024.0f, -1024.0f}) {
    Problem problem = RandomProblem(86, 211, 24, 3);
    for (auto* values : {&problem.weight, &problem.bias, &problem.states}) {
      for (float& value : *values) value = std::clamp(std::round(value), -2.0f, 2.0f);
    }
    for (float& value : problem.bias) value = shared;
    for (Ask& ask : problem.asks) ask.count = 5;
    CheckSelect(problem, /*same_tokens=*/true);
  }
}

TEST(BackendSelect, AForbiddenTokenOfTheCheckpointIsNoError) {
  Problem problem = RandomProblem(87, 211, 40, 2);
  problem.bias[3] = -kInfinity;
  problem.asks[0] = {.count = 4, .force = {3}};
  problem.asks[1] = {.space = SelectSpace::kLogits, .count = kMaxCandidates};
  CheckSelect(problem);
}

// Where every token is banned no value is left to normalize: all stay -infinity, the lower token first. (log_softmax
// would make them NaN, which no search can order.)
TEST(BackendSelect, ARowWithoutATokenLeftIsMinusInfinity) {
  for (int vocab : {3, 37}) {
    Problem problem = RandomProblem(90, vocab, 40, 4);
    for (int row = 0; row < 3; ++row) {
      Ask& ask = problem.asks[row];
      ask = {.space = row == 1 ? SelectSpace::kLogits : SelectSpace::kLogProbs, .count = 3, .renormalize = true};
      for (int32_t token = 0; token < vocab; ++token) ask.edits.push_back({.token = token, .ban = true});
    }
    problem.asks[2].force = {1};
    problem.asks[3] = {.count = 3, .renormalize = true};  // a neighbour that has all of them
    CheckSelect(problem, /*same_tokens=*/true);
    if (HasFailure()) return;
  }
}

// Sums and lists are made by panels of 16 or 32 tokens and by 16 panels: what is apart or best may stand on each
// border.
TEST(BackendSelect, BordersOfPanelsAndOfParts) {
  constexpr int kVocab = 1041;
  const std::vector<int32_t> borders = {0,   1,   15,  16,  31,  32,  33,   255,  256,
                                        257, 511, 512, 513, 767, 768, 1023, 1024, kVocab - 1};
  Problem problem = RandomProblem(91, kVocab, 40, 12);
  for (const int32_t token : borders) problem.bias[token] += 12;
  for (size_t row = 0; row < problem.asks.size(); ++row) {
    Ask& ask = problem.asks[row];
    ask = {.space = row % 2 == 0 ? SelectSpace::kLogProbs : SelectSpace::kLogits, .count = 12};
    ask.renormalize = row % 3 == 0;
    // All of them, none, every second, every third.
    for (size_t i = 0; row % 4 != 1 && i < borders.size(); i += row % 4 == 0 ? 1 : row % 4) {
      ask.edits.push_back({.token = borders[i], .ban = i % 2 == 0, .add = -2.5f});
    }
  }
  problem.asks[10].force = {kVocab - 1, 256};
  problem.asks[11].force = {15, 512};
  CheckSelect(problem);
}

// What was best before the edits is nothing afterwards.
TEST(BackendSelect, MoreOfTheBestAreBannedThanAreWanted) {
  constexpr int kVocab = 900;
  Problem problem = RandomProblem(92, kVocab, 40, 8);
  for (int i = 0; i < 100; ++i) problem.bias[(i * 101) % kVocab] += 20 + 0.25f * static_cast<float>(i);
  for (size_t row = 0; row < problem.asks.size(); ++row) {
    Ask& ask = problem.asks[row];
    ask = {.space = row % 2 == 0 ? SelectSpace::kLogProbs : SelectSpace::kLogits, .count = row < 4 ? 1 : 5};
    ask.renormalize = row % 4 >= 2;
    for (int32_t token = 0; token < kVocab; ++token) {
      if (problem.bias[token] > 15) ask.edits.push_back({.token = token, .ban = true});
    }
  }
  CheckSelect(problem);
}

// The sum without the banned token cannot be had from the sum with it: next to e^60 nothing is left of it.
TEST(BackendSelect, ABannedTokenHadNearlyAllOfTheSum) {
  for (const int32_t token : {3, 40, 700}) {  // the first of its part, or far above what came before
    Problem problem = RandomProblem(93, 1000, 40, 6);
    problem.bias[token] = 90;
    for (size_t row = 0; row < problem.asks.size(); ++row) {
      problem.asks[row] = {.space = row % 2 == 0 ? SelectSpace::kLogProbs : SelectSpace::kLogits,
                           .count = 5,
                           .edits = {{.token = token, .ban = row < 4, .add = -90}},
                           .renormalize = row != 2 && row != 3};
    }
    CheckSelect(problem);
    if (HasFailure()) return;
  }
}

// Wherever the greatest logits are, none of their exponentials may overflow, and all sums keep their digits.
TEST(BackendSelect, LogitsRiseAndFallFar) {
  for (const float step : {4.0f, -4.0f, 49.0f, 51.0f, 400.0f, -400.0f}) {
    SCOPED_TRACE("by " + std::to_string(step));
    Problem problem = RandomProblem(94, 1000, 40, 4);
    for (int token = 0; token < problem.vocab; ++token) {
      problem.bias[token] += step * static_cast<float>(token * 7 / 16 % 61);
    }
    for (size_t row = 0; row < problem.asks.size(); ++row) {
      problem.asks[row] = {.space = row % 2 == 0 ? SelectSpace::kLogProbs : SelectSpace::kLogits, .count = 9};
    }
    CheckSelect(problem);
    if (HasFailure()) return;
  }
}

// Logits that differ by less than their log-probabilities can show: the lower token is first among equal values, though
// its logit is among the least. Only all logits can tell.
TEST(BackendSelect, DifferentLogitsOfOneValueGoToTheLowerToken) {
  constexpr int kVocab = 1000;
  for (const bool distinct_best : {false, true}) {
    Problem problem = RandomProblem(95, kVocab, 40, 14);
    std::ranges::fill(problem.states, 0.0f);
    for (int token = 0; token < kVocab; ++token) problem.bias[token] = 0x1p-40f * static_cast<float>(token);
    problem.bias[500] = 16;
    if (distinct_best) problem.bias[900] = 14, problem.bias[20] = 13;
    const int counts[] = {1, 2, 3, 5, 33, kMaxCandidates};
    for (size_t row = 0; row < problem.asks.size(); ++row) {
      Ask& ask = problem.asks[row];
      ask = {.space = SelectSpace::kLogProbs, .count = counts[row % 6]};
      if (row >= 6) ask.edits = {{.token = 0, .ban = true}, {.token = 2, .add = 1}, {.token = 5, .add = -1}};
    }
    // Raw logits do not tie, but their log-softmax does.
    problem.asks[0].space = problem.asks[3].space = problem.asks[7].space = problem.asks[8].space =
        SelectSpace::kLogits;
    problem.asks[9].renormalize = true;
    // The cuda backend takes as many as are wanted by their logits, and ranks only those again.
    problem.asks[8].renormalize = !CudaIsAmongBackends();
    problem.asks[12] = {.count = 4, .force = {7, 900}};
    CheckSelect(problem, /*same_tokens=*/true);
    if (HasFailure()) return;
  }
}

TEST(BackendSelect, FewTokensThatTheCheckpointAllows) {
  constexpr int kVocab = 600;
  for (const std::vector<int32_t>& allowed : {std::vector<int32_t>{580}, {3, 255, 256}, {0, 1, 2, 17, 18, 300, 599}}) {
    Problem problem = RandomProblem(96, kVocab, 40, 8);
    std::vector<float> bias(kVocab, -kInfinity);
    for (const int32_t token : allowed) bias[token] = problem.bias[token];
    problem.bias = bias;
    for (size_t row = 0; row < problem.asks.size(); ++row) {
      Ask& ask = problem.asks[row];
      ask = {.space = row % 2 == 0 ? SelectSpace::kLogProbs : SelectSpace::kLogits, .count = row < 4 ? 3 : 40};
      ask.renormalize = row % 4 == 3;
      if (row >= 2) ask.edits = {{.token = 1, .ban = true}, {.token = 4, .add = 5}, {.token = 256, .add = -1}};
    }
    problem.asks[7].edits.push_back({.token = 580, .ban = true});
    CheckSelect(problem, /*same_tokens=*/true);
    if (HasFailure()) return;
  }
}

// A sequence whose logits are not numbers fails alone.
TEST(BackendSelect, RowsThatAreNotFiniteSaySo) {
  for (int vocab : {7, 211, 1000}) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocab));
    Problem problem = RandomProblem(88, vocab, 40, 9);
    for (Ask& ask : problem.asks) ask.count = 4;
    problem.states[1 * 40 + 7] = std::numeric_limits<float>::quiet_NaN();
    problem.states[5 * 40] = kInfinity;  // times weights of both signs
    problem.asks[5].space = SelectSpace::kLogits;
    // A forced token hides nothing.
    problem.states[8 * 40 + 39] = std::numeric_limits<float>::quiet_NaN();
    problem.asks[8].force = {2};
    CheckSelect(problem);
    if (HasFailure()) return;
  }
  // One logit of +infinity or that is no number, wherever it stands; a ban or a forced token hides nothing either.
  for (const float value : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    for (int32_t token : {0, 1, 100, 210}) {
      Problem problem = RandomProblem(89, 211, 40, 4);
      problem.bias[token] = value;
      problem.asks[1].space = SelectSpace::kLogits;
      problem.asks[2].edits = {{.token = token, .ban = true}};
      problem.asks[3].force = {7};
      CheckSelect(problem);
    }
  }
}

}  // namespace
}  // namespace elserve
