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
  std::vector<Candidate> candidates;
};

// What a row asks; position is set when a step is made.
struct Ask {
  SelectSpace space = SelectSpace::kLogProbs;
  int count = 1;
  std::vector<int32_t> force = {};
  std::vector<LogitEdit> edits = {};
  bool renormalize = false;
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
                             .renormalize = ask.renormalize});
    }
    session_.backend().BeginStep(step.Layout());
    session_.backend().Write(input_, states);
    session_.backend().SelectTokens({.input = input_, .weight = weight_.get()});
    const auto selected = session_.backend().Selected();
    std::vector<Answer> answers;
    if (!selected.ok()) {
      ADD_FAILURE() << selected.status();
      return answers;
    }
    for (const SelectedRow& row : *selected) {
      answers.push_back({.finite = row.finite, .candidates = {row.candidates.begin(), row.candidates.end()}});
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
  ask.renormalize = ask.force.empty() && below(3) == 0;
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
  // One logit of +infinity, wherever it stands.
  for (int32_t token : {0, 1, 100, 210}) {
    Problem problem = RandomProblem(89, 211, 40, 2);
    problem.bias[token] = kInfinity;
    CheckSelect(problem);
  }
}

}  // namespace
}  // namespace elserve
