// FavorAttention: every backend that has it against the reference, and the authors' checks of the approximation itself
// (Choromanski et al. 2020, and the tests of their code): no bias, variance falling as 1/m, orthogonal features better
// than independent ones, and an attention of 10,000 tokens near the exact one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/backend/reference/reference_backend.h"
#include "engine/thread_pool.h"
#include "tests/engine/backend/attention_world.h"
#include "tests/engine/backend/backends_under_test.h"
#include "tests/engine/backend/operation_check.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

struct FavorShape {
  int heads;
  int head_dim;
  int features;
};
// Features around pages of 64 and strips of 128, heads around a vector's and a panel's width.
constexpr FavorShape kShapes[] = {{1, 8, 1},     {3, 6, 63},   {2, 16, 64},   {5, 18, 70},  {2, 34, 65},
                                  {12, 64, 256}, {1, 80, 300}, {2, 160, 130}, {4, 128, 17}, {3, 32, 500}};

MemoryShape MemoryOf(int heads, int head_dim) {
  return {.cross = AttentionForm::kKv,
          .self = AttentionForm::kKv,
          .layers = 1,
          .d = heads * head_dim,
          .heads = heads,
          .head_dim = head_dim};
}

// An attention over documents of these lengths: q, k and v are rows of normal values, q and k of `deviation`.
struct FavorProblem {
  FavorShape shape;
  std::vector<int> lengths;
  float deviation;
};

Runner LoadFavor(Session& session, const FavorProblem& problem) {
  const FavorShape& shape = problem.shape;
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  const std::vector<int>& lengths = problem.lengths;
  const int total = std::accumulate(lengths.begin(), lengths.end(), 0);
  session.AllocateMemory(MemoryOf(shape.heads, shape.head_dim), 1, 1,
                         {.encode_positions = total,
                          .decode_positions = 1,
                          .select_rows = 1,
                          .decoder_length = 1,
                          .source_length = *std::max_element(lengths.begin(), lengths.end())});
  const std::vector<float> drawn = session.Random(7, int64_t{shape.features} * shape.head_dim, 1.0f);
  const std::shared_ptr<PackedWeight> features =
      session.backend().PackEmbedding(View(drawn, {shape.features, shape.head_dim}));
  const Tensor qkv = session.Allocate(total, 3 * width, Storage::kState);
  const Tensor output = session.Allocate(total, width, Storage::kState);
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < lengths.size(); ++i) {
    std::vector<float> rows = RandomValues(static_cast<uint32_t>(20 + i), lengths[i] * qkv.cols, 1.0f);
    for (size_t j = 0; j < rows.size(); ++j) {
      if (static_cast<int64_t>(j) % qkv.cols < 2 * width) rows[j] *= problem.deviation;
      if (session.precision() == DataType::kBFloat16) rows[j] = RoundedToBFloat16(rows[j]);
    }
    values.push_back(std::move(rows));
  }
  return EncodeRunner(session, {.qkv = qkv, .output = output, .values = std::move(values)}, [=, &session] {
    session.backend().FavorAttention(
        {.qkv = qkv, .features = features.get(), .heads = shape.heads, .head_dim = shape.head_dim, .output = output});
  });
}

std::string NameOf(const FavorProblem& problem) {
  return "favor attention heads " + std::to_string(problem.shape.heads) + " head_dim " +
         std::to_string(problem.shape.head_dim) + " features " + std::to_string(problem.shape.features) +
         " deviation " + std::to_string(problem.deviation);
}

// Three threads; the batches have documents alone, several, in other orders, so that tasks are cut otherwise.
void Check(const FavorProblem& problem, std::vector<std::vector<int>> batches) {
  CheckOperation({.name = NameOf(problem),
                  .units = static_cast<int>(problem.lengths.size()),
                  .cols = int64_t{problem.shape.heads} * problem.shape.head_dim,
                  // One rounding more than an attention has: what features sum up is states, too.
                  .tolerance = {.bfloat16 = Tolerance().bfloat16 + 1.0 / 512},
                  .load = [&](Session& session) { return LoadFavor(session, problem); },
                  .batches = std::move(batches)});
}

TEST(BackendFavor, IsAsTheReferenceWhateverTheCompany) {
  const std::vector<int> lengths = {1, 300, 2, 64, 63, 129, 65, 17, 200};
  for (const FavorShape& shape : kShapes) {
    // Scores of about 1, as a half of the scale on each side makes them.
    const float deviation = 1 / std::sqrt(std::sqrt(static_cast<float>(shape.head_dim)));
    Check({shape, lengths, deviation}, {{0}, {1}, {5}, {8}, {1, 3}, {8, 7, 6, 5, 4, 3, 2, 1, 0}, {6, 0, 4}});
    if (HasFatalFailure()) return;
  }
}

// Against the reference, value by value, where a precision has a tolerance of its own.
void ExpectNear(const BackendUnderTest& backend, const FavorProblem& problem, float tolerance) {
  SCOPED_TRACE(backend.name);
  Session session(backend.make(), backend.state_type), reference(MakeReferenceBackend(), backend.state_type);
  std::vector<int> units(problem.lengths.size());
  std::iota(units.begin(), units.end(), 0);
  const UnitOutputs actual = LoadFavor(session, problem)(units), expected = LoadFavor(reference, problem)(units);
  for (int unit : units) {
    for (size_t i = 0; i < expected[unit].size(); ++i) {
      ASSERT_NEAR(actual[unit][i], expected[unit][i], tolerance) << "document " << unit << ", value " << i;
    }
  }
}

// Exponents of some hundreds, whose exponentials no float32 holds, and which differ by hundreds between the tokens of a
// document: nothing overflows, and no sum is 0. The exponents take digits from what stands behind them.
TEST(BackendFavor, LargeExponentsOverflowNothing) {
  for (const BackendUnderTest& backend : BackendsUnderTest()) {
    ExpectNear(backend, {{2, 16, 70}, {40, 150, 1}, 8.0f}, backend.state_type == DataType::kFloat32 ? 1e-3f : 0.05f);
    if (HasFatalFailure()) return;
  }
}

// Which bfloat16 has not.
TEST(BackendFavor, HeadsOfOddWidth) {
  for (const BackendUnderTest& backend : BackendsUnderTest()) {
    if (backend.state_type != DataType::kFloat32) continue;
    for (const FavorShape& shape : {FavorShape{3, 7, 65}, FavorShape{1, 1, 3}, FavorShape{2, 33, 20}}) {
      ExpectNear(backend, {shape, {1, 130, 65}, 0.7f}, 2e-5f);
      if (HasFatalFailure()) return;
    }
  }
}

// How a loop is cut, and so which thread does what, changes no bit.
TEST(BackendFavor, AnyNumberOfThreadsGivesTheSameBits) {
  for (const DataType type : {DataType::kFloat32, DataType::kBFloat16}) {
    UnitOutputs first;
    for (const int threads : {1, 2, 5, 12}) {
      ThreadPool pool(threads);
      auto backend = MakeCpuBackend({.state_type = type, .pool = &pool});
      ASSERT_TRUE(backend.ok()) << backend.status();
      Session session(*std::move(backend), type);
      const std::vector<int> units = {0, 1, 2, 3};
      const UnitOutputs outputs = LoadFavor(session, {{3, 16, 300}, {500, 20, 130, 1}, 0.5f})(units);
      if (first.empty()) first = outputs;
      for (int unit : units) EXPECT_EQ(BitDifference(first[unit], outputs[unit]), "") << threads << " threads";
    }
  }
}

// One document's NaN stays its own.
TEST(BackendFavor, NanStaysInItsDocument) {
  const FavorShape shape = {2, 16, 70};
  const int64_t cols = 3 * shape.heads * shape.head_dim, width = cols / 3;
  for (const BackendUnderTest& backend : BackendsUnderTest()) {
    SCOPED_TRACE(backend.name);
    std::vector<float> answers[2];
    for (const bool broken : {false, true}) {
      Session session(backend.make(), backend.state_type);
      session.AllocateMemory(
          MemoryOf(shape.heads, shape.head_dim), 1, 1,
          {.encode_positions = 60, .decode_positions = 1, .select_rows = 1, .decoder_length = 1, .source_length = 30});
      const std::vector<float> drawn = session.Random(7, int64_t{shape.features} * shape.head_dim, 1.0f);
      const PackedWeightPtr features = session.backend().PackEmbedding(View(drawn, {shape.features, shape.head_dim}));
      const Tensor qkv = session.Allocate(60, cols, Storage::kState),
                   out = session.Allocate(60, width, Storage::kState);
      std::vector<float> values = session.Random(8, 60 * cols, 0.5f);
      if (broken) std::fill_n(values.begin(), 30 * cols, NAN);
      OwnedStep step = PlainStep(Phase::kEncode, 60);
      step.encode_documents = {{.begin = 0, .length = 30, .pages = {}}, {.begin = 30, .length = 30, .pages = {}}};
      session.backend().BeginStep(step.Layout());
      session.backend().Write(qkv, values);
      session.backend().FavorAttention(
          {.qkv = qkv, .features = features.get(), .heads = shape.heads, .head_dim = shape.head_dim, .output = out});
      answers[broken] = session.backend().Read(out, 60);
      EXPECT_EQ(std::isnan(answers[broken][0]), broken);
      answers[broken].erase(answers[broken].begin(), answers[broken].begin() + 30 * width);
    }
    EXPECT_EQ(BitDifference(answers[0], answers[1]), "");
  }
}

// --- The authors' checks -------------------------------------------------------------------------------------------

using Vector = std::vector<double>;

double DotOf(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// m features of width d. Orthogonal: in blocks of d by Gram and Schmidt, each as long as a normal vector is, as
// models/debian-synopsis/training/favor.py draws them.
std::vector<Vector> DrawFeatures(std::mt19937& rng, int m, int d, bool orthogonal) {
  std::normal_distribution<double> normal;
  std::vector<Vector> features;
  for (int i = 0; i < m; ++i) {
    Vector w(d), other(d);
    for (double& x : w) x = normal(rng);
    for (double& x : other) x = normal(rng);
    if (orthogonal) {
      for (int before = i / d * d; before < i; ++before) {
        const double part = DotOf(w, features[before]) / DotOf(features[before], features[before]);
        for (int j = 0; j < d; ++j) w[j] -= part * features[before][j];
      }
      const double scale = std::sqrt(DotOf(other, other) / DotOf(w, w));
      for (double& x : w) x *= scale;
    }
    features.push_back(std::move(w));
  }
  return features;
}

// phi(q).phi(k), the estimate of exp(q.k).
double Estimate(const std::vector<Vector>& features, const Vector& q, const Vector& k) {
  double sum = 0;
  for (const Vector& w : features) {
    sum += std::exp(DotOf(w, q) - DotOf(q, q) / 2) * std::exp(DotOf(w, k) - DotOf(k, k) / 2);
  }
  return sum / static_cast<double>(features.size());
}

Vector NormalVector(std::mt19937& rng, int d, double deviation) {
  std::normal_distribution<double> normal(0.0, deviation);
  Vector x(d);
  for (double& value : x) value = normal(rng);
  return x;
}

// Of estimates with m features, over so many draws and pairs of vectors, by exp(q.k): their mean, and the mean of the
// squares of their errors.
struct Errors {
  double mean, square;
};
Errors ErrorsOf(int m, bool orthogonal, int draws) {
  constexpr int kWidth = 8, kPairs = 8;
  std::mt19937 rng(3);
  std::vector<Vector> q, k;
  for (int i = 0; i < kPairs; ++i) {
    q.push_back(NormalVector(rng, kWidth, 0.35));
    k.push_back(NormalVector(rng, kWidth, 0.35));
  }
  Errors errors = {};
  for (int draw = 0; draw < draws; ++draw) {
    const std::vector<Vector> features = DrawFeatures(rng, m, kWidth, orthogonal);
    for (int i = 0; i < kPairs; ++i) {
      const double ratio = Estimate(features, q[i], k[i]) / std::exp(DotOf(q[i], k[i]));
      errors.mean += ratio / (draws * kPairs);
      errors.square += (ratio - 1) * (ratio - 1) / (draws * kPairs);
    }
  }
  return errors;
}

TEST(FavorEstimate, HasNoBias) {
  for (const bool orthogonal : {false, true}) {
    const Errors errors = ErrorsOf(16, orthogonal, 20000);
    // Four standard deviations of the mean of as many draws.
    EXPECT_NEAR(errors.mean, 1.0, 4 * std::sqrt(errors.square / 20000)) << orthogonal;
    EXPECT_GT(errors.square, 1e-3);
  }
}

TEST(FavorEstimate, HasAVarianceThatFallsAsOneOverTheFeatures) {
  for (const bool orthogonal : {false, true}) {
    const double few = ErrorsOf(16, orthogonal, 4000).square, many = ErrorsOf(128, orthogonal, 4000).square;
    EXPECT_NEAR(few / many, 8.0, 1.0) << orthogonal;
  }
}

TEST(FavorEstimate, IsBetterWithOrthogonalFeatures) {
  for (const int m : {8, 16, 64}) {
    EXPECT_LT(ErrorsOf(m, true, 8000).square, 0.9 * ErrorsOf(m, false, 8000).square) << m;
  }
}

// The authors' own bound for their code, of an attention that a backend computes: 10,000 tokens of width 8, 1000
// features; the greatest error of any output stays below 0.5.
TEST(FavorEstimate, OfALongAttentionIsNearTheExactOne) {
  constexpr int kTokens = 10000, kWidth = 8, kFeatures = 1000, kEvery = 7;
  const float root = std::pow(static_cast<float>(kWidth), -0.25f);
  std::mt19937 rng(11);
  std::vector<float> features;
  for (const Vector& w : DrawFeatures(rng, kFeatures, kWidth, /*orthogonal=*/true)) {
    features.insert(features.end(), w.begin(), w.end());
  }
  const std::vector<float> q = RandomValues(1, kTokens * kWidth, 1.0f), k = RandomValues(2, kTokens * kWidth, 1.0f),
                           v = RandomValues(3, kTokens * kWidth, 1.0f);
  std::vector<float> rows;
  for (int t = 0; t < kTokens; ++t) {
    for (int j = 0; j < kWidth; ++j) rows.push_back(q[t * kWidth + j] * root);
    for (int j = 0; j < kWidth; ++j) rows.push_back(k[t * kWidth + j] * root);
    for (int j = 0; j < kWidth; ++j) rows.push_back(v[t * kWidth + j]);
  }
  // Every seventh query exactly.
  std::vector<Vector> exact;
  for (int t = 0; t < kTokens; t += kEvery) {
    Vector sums(kWidth);
    double total = 0;
    for (int s = 0; s < kTokens; ++s) {
      double score = 0;
      for (int j = 0; j < kWidth; ++j) score += static_cast<double>(q[t * kWidth + j]) * k[s * kWidth + j];
      const double weight = std::exp(score / std::sqrt(kWidth));
      total += weight;
      for (int j = 0; j < kWidth; ++j) sums[j] += weight * v[s * kWidth + j];
    }
    for (double& sum : sums) sum /= total;
    exact.push_back(std::move(sums));
  }
  for (const BackendUnderTest& backend : BackendsUnderTest()) {
    SCOPED_TRACE(backend.name);
    Session session(backend.make(), backend.state_type);
    session.AllocateMemory(MemoryOf(1, kWidth), 1, 1,
                           {.encode_positions = kTokens,
                            .decode_positions = 1,
                            .select_rows = 1,
                            .decoder_length = 1,
                            .source_length = kTokens});
    const PackedWeightPtr packed = session.backend().PackEmbedding(View(features, {kFeatures, kWidth}));
    const Tensor qkv = session.Allocate(kTokens, 3 * kWidth, Storage::kState);
    const Tensor output = session.Allocate(kTokens, kWidth, Storage::kState);
    OwnedStep step = PlainStep(Phase::kEncode, kTokens);
    session.backend().BeginStep(step.Layout());
    session.backend().Write(qkv, rows);
    session.backend().FavorAttention(
        {.qkv = qkv, .features = packed.get(), .heads = 1, .head_dim = kWidth, .output = output});
    const std::vector<float> all = session.backend().Read(output, kTokens);
    double greatest = 0, mean = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      for (int j = 0; j < kWidth; ++j) {
        const double error = std::abs(all[i * kEvery * kWidth + j] - exact[i][j]);
        greatest = std::max(greatest, error);
        mean += error / static_cast<double>(exact.size() * kWidth);
      }
    }
    EXPECT_LT(greatest, 0.5);
    EXPECT_LT(mean, 0.02);
    RecordProperty(backend.name + " greatest error", std::to_string(greatest) + ", mean " + std::to_string(mean));
  }
}

}  // namespace
}  // namespace elserve
