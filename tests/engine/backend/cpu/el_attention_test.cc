// EL-attention and the pages that it reads, as each instruction set has them, against plain sums in float64.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/backend/cpu/choose_isa.h"
#include "engine/backend/cpu/kernels.h"
#include "gtest/gtest.h"

namespace elserve::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
using Rows = std::vector<std::vector<float>>;
using Bytes = std::vector<std::byte>;

// Everything that no kernel may read, or has to write first: as floats and as bfloat16 no numbers.
constexpr std::byte kNoNumber{0xff};

struct Level {
  Isa isa;
  DataType type;
  const StateMemory* int8 = nullptr;  // null: states as they are
};
std::vector<Level> Levels() {
  std::vector<Level> levels;
  for (int isa = 0; HasAvx2() && isa <= static_cast<int>(DetectIsa()); ++isa) {
    for (const DataType type : {DataType::kFloat32, DataType::kBFloat16})
      levels.push_back({static_cast<Isa>(isa), type});
    if (const Int8Kernels* int8 = Int8KernelsFor(static_cast<Isa>(isa))) {
      levels.push_back({static_cast<Isa>(isa), DataType::kBFloat16, &int8->states});
    }
  }
  return levels;
}

class ElAttentionTest : public testing::TestWithParam<Level> {
 protected:
  ElAttentionTest()
      : k_(KernelsFor(GetParam().isa, GetParam().type)), memory_(GetParam().int8 ? *GetParam().int8 : k_.states) {}

  struct Problem {
    Rows states, q;  // [tokens, d], [queries, d], as they are kept and as attention has them
    Rows bias;       // [queries, tokens], or nothing
  };
  // Scores of about the deviation.
  Problem Make(uint32_t seed, int64_t d, int tokens, int queries, float deviation) const {
    std::mt19937 rng(seed);
    Problem p = {.states = RandomRows(rng, tokens, d, 1.0f),
                 .q = RandomRows(rng, queries, d, deviation / std::sqrt(static_cast<float>(d))),
                 .bias = {}};
    if (GetParam().int8) {
      // Of scales far apart.
      for (int t = 0; t < tokens; ++t) {
        for (float& x : p.states[t]) x *= std::exp2(static_cast<float>(t % 4));
        RoundToIntegers(&p.states[t]);
      }
      for (std::vector<float>& row : p.q) RoundToIntegers(&row);
    }
    return p;
  }

  // The answers to the chosen queries, in their order. `shift`: floats from a cache line to the scratch.
  Rows Run(const Problem& p, std::span<const int> queries, int shift) const {
    const auto d = static_cast<int64_t>(p.q[0].size());
    std::vector<Bytes> pages = StorePages(p.states), q, out;
    std::vector<const uint32_t*> page_pointers, q_pointers;
    std::vector<const float*> bias;
    std::vector<std::byte*> out_pointers;
    for (const Bytes& page : pages) page_pointers.push_back(reinterpret_cast<const uint32_t*>(page.data()));
    for (const int query : queries) {
      q.push_back(StatesOf(p.q[query], d));
      out.emplace_back(StateBytes(d + kGuard), kNoNumber);
      if (!p.bias.empty()) bias.push_back(p.bias[query].data());
    }
    for (size_t i = 0; i < queries.size(); ++i) {
      q_pointers.push_back(reinterpret_cast<const uint32_t*>(q[i].data()));
      out_pointers.push_back(out[i].data());
    }
    std::vector<float> scratch(memory_.scratch_floats(d) + shift);
    std::memset(scratch.data(), static_cast<int>(kNoNumber), scratch.size() * sizeof(float));
    memory_.attend({.q = q_pointers.data(),
                    .queries = static_cast<int>(queries.size()),
                    .units = d / k_.pack,
                    .d = d,
                    .tokens = static_cast<int>(p.states.size()),
                    .pages = page_pointers.data(),
                    .bias = p.bias.empty() ? nullptr : bias.data(),
                    .out = out_pointers.data(),
                    .scratch = scratch.data() + shift});
    Rows rows;
    for (const Bytes& bytes : out) {
      EXPECT_EQ(std::count(bytes.begin() + StateBytes(d), bytes.end(), kNoNumber), StateBytes(kGuard));
      rows.emplace_back(d);
      k_.from_state(bytes.data(), d, rows.back().data());
    }
    return rows;
  }
  Rows RunAll(const Problem& p) const {
    std::vector<int> all(p.q.size());
    std::iota(all.begin(), all.end(), 0);
    return Run(p, all, 0);
  }

  void ExpectRight(const Problem& p) const {
    // bfloat16: the answer's rounding is 1/512, the rest is for the weights'.
    const double tolerance = GetParam().type == DataType::kFloat32 ? 5e-5 : 1.0 / 128;
    const Rows got = RunAll(p);
    for (size_t query = 0; query < p.q.size(); ++query) {
      const std::vector<double> weights = Weights(p, static_cast<int>(query)), expected = Mean(p, weights);
      double scale = 1;
      for (const double x : expected) scale = std::max(scale, std::abs(x));
      const std::vector<double> slack =
          GetParam().int8 ? RoundedWeights(p, weights, expected) : std::vector<double>(expected.size());
      for (size_t j = 0; j < expected.size(); ++j) {
        // False for NaN.
        ASSERT_TRUE(std::abs(got[query][j] - expected[j]) <= tolerance * scale + slack[j])
            << "query " << query << " column " << j << ": " << got[query][j] << " for " << expected[j] << ", "
            << p.q.size() << " queries, " << p.states.size() << " tokens, d " << expected.size();
      }
    }
  }

  const Kernels& k_;
  const StateMemory& memory_;

 private:
  static constexpr int64_t kGuard = 32;

  int64_t StateBytes(int64_t n) const { return n * 4 / k_.pack; }

  // `width` columns; those that values do not fill are no numbers.
  Bytes StatesOf(const std::vector<float>& values, int64_t width) const {
    Bytes bytes(StateBytes(width), kNoNumber);
    k_.to_state(values.data(), static_cast<int64_t>(values.size()), bytes.data());
    return bytes;
  }

  Rows RandomRows(std::mt19937& rng, int rows, int64_t d, float deviation) const {
    std::normal_distribution<float> normal(0.0f, deviation);
    Rows all(rows, std::vector<float>(d));
    for (std::vector<float>& row : all) {
      for (float& x : row) x = normal(rng);
      k_.from_state(StatesOf(row, d).data(), d, row.data());
    }
    return all;
  }

  // As a row's cells are stored: cleared as far as an attention reads them.
  std::vector<Bytes> StorePages(const Rows& states) const {
    const auto d = static_cast<int64_t>(states[0].size());
    const auto tokens = static_cast<int>(states.size());
    std::vector<Bytes> pages;
    for (int begin = 0; begin < tokens; begin += kPageTokens) {
      const int count = std::min(tokens - begin, kPageTokens);
      std::vector<Bytes> rows;
      std::vector<const std::byte*> pointers;
      for (int t = 0; t < count; ++t) {
        const Bytes row = StatesOf(states[begin + t], RoundUp(d, 32));
        rows.emplace_back(memory_.kept_bytes(d), kNoNumber);
        memory_.keep(row.data(), d, rows.back().data());
      }
      for (const Bytes& row : rows) pointers.push_back(row.data());
      pages.emplace_back(memory_.page_bytes(d), kNoNumber);
      memory_.store_page({.rows = pointers.data(),
                          .tokens = count,
                          .d = d,
                          .page = pages.back().data(),
                          .reach = static_cast<int>(RoundUp(count, kStateStep))});
    }
    return pages;
  }

  // Such that rounding once more gives the same integers.
  static void RoundToIntegers(std::vector<float>* row) {
    float greatest = 0;
    for (const float x : *row) greatest = std::max(greatest, std::abs(x));
    // A power of two, of which bfloat16 has all multiples that are needed.
    const float scale = std::exp2(std::floor(std::log2(greatest / 127)));
    for (float& x : *row) x = scale * std::clamp(std::nearbyint(x / scale), -127.0f, 127.0f);
    row->front() = 127 * scale;
  }

  // exp(score - the greatest) of each token.
  static std::vector<double> Weights(const Problem& p, int query) {
    const std::vector<float>& q = p.q[query];
    std::vector<double> weights;
    for (size_t t = 0; t < p.states.size(); ++t) {
      double score = p.bias.empty() ? 0 : p.bias[query][t];
      for (size_t j = 0; j < q.size(); ++j) score += static_cast<double>(q[j]) * p.states[t][j];
      weights.push_back(score);
    }
    const double top = *std::max_element(weights.begin(), weights.end());
    for (double& weight : weights) weight = std::exp(weight - top);
    return weights;
  }

  static std::vector<double> Mean(const Problem& p, const std::vector<double>& weights) {
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> sums(p.states[0].size());
    for (size_t t = 0; t < weights.size(); ++t) {
      for (size_t j = 0; j < sums.size(); ++j) sums[j] += weights[t] / total * p.states[t][j];
    }
    return sums;
  }

  // By how much a mean may be off whose weights, times their states' scales, were rounded to 254ths of the strip's
  // greatest, with what is left of the one before.
  static std::vector<double> RoundedWeights(const Problem& p, const std::vector<double>& weights,
                                            const std::vector<double>& mean) {
    std::vector<double> scales, slack(mean.size());
    // Of zeros it is one of normed numbers: as if the greatest were 4.
    for (const std::vector<float>& row : p.states) scales.push_back(row.front() > 0 ? row.front() : 4.0);
    double total = 0;
    for (size_t begin = 0; begin < weights.size(); begin += kStripTokens) {
      const size_t end = std::min<size_t>(begin + kStripTokens, weights.size());
      double greatest = 0;
      for (size_t t = begin; t < end; ++t) greatest = std::max(greatest, weights[t] * scales[t]);
      for (size_t t = begin; t < end; ++t) {
        const double most = 1.01 / 254 * greatest / scales[t];
        total += weights[t];
        for (size_t j = 0; j < slack.size(); ++j) slack[j] += most * std::abs(p.states[t][j] - mean[j]);
      }
    }
    for (double& x : slack) x /= total;
    return slack;
  }
};

TEST_P(ElAttentionTest, DocumentsOfEveryLength) {
  for (const int tokens : {1, 2, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 161, 256, 257, 1000}) {
    for (const int64_t d : {2, 40, 96}) {
      for (const int queries : {5, 20, 40, memory_.most_queries}) ExpectRight(Make(1, d, tokens, queries, 2.0f));
      if (HasFatalFailure()) return;
    }
  }
}

// Alone or beside any others, in any place: the same bits.
TEST_P(ElAttentionTest, EveryNumberOfQueries) {
  const Problem p = Make(2, 104, 301, memory_.most_queries, 6.0f);
  ExpectRight(p);
  const Rows all = RunAll(p);
  for (int count = 1; count <= memory_.most_queries; ++count) {
    std::vector<int> chosen;
    for (int i = 0; i < count; ++i) chosen.push_back((5 * count + 7 * i) % memory_.most_queries);
    const Rows some = Run(p, chosen, count % 16);
    for (int i = 0; i < count; ++i) {
      ASSERT_EQ(std::memcmp(some[i].data(), all[chosen[i]].data(), some[i].size() * sizeof(float)), 0)
          << "query " << chosen[i] << " in place " << i << " of " << count;
    }
  }
}

// One strip's best score is far above all scores of those before: what they summed fades.
TEST_P(ElAttentionTest, ScoresThatRise) {
  Problem p = Make(3, 40, 1000, memory_.most_queries, 15.0f);
  ExpectRight(p);
  p = Make(4, 72, 700, memory_.most_queries, 1.0f);
  p.bias.assign(p.q.size(), std::vector<float>(700));
  for (size_t query = 0; query < p.q.size(); ++query) {
    // By up to 8 powers of 2 a strip, and by more.
    for (int t = 0; t < 700; ++t) p.bias[query][t] = static_cast<float>(t) * 0.004f * static_cast<float>(query);
  }
  ExpectRight(p);
  for (std::vector<float>& bias : p.bias) std::reverse(bias.begin(), bias.end());
  ExpectRight(p);
}

// A query may see no token of whole strips, the first ones too.
TEST_P(ElAttentionTest, HiddenTokens) {
  for (const int tokens : {40, 129, 300, 515}) {
    Problem p = Make(5, 40, tokens, memory_.most_queries, 2.0f);
    p.bias.assign(p.q.size(), std::vector<float>(tokens, 0.0f));
    for (int query = 0; query < memory_.most_queries; ++query) {
      std::vector<float>& bias = p.bias[query];
      // What masks are made of: infinity, or the least number.
      const float hidden = query % 2 ? -kInfinity : std::numeric_limits<float>::lowest();
      const int seen = query * (tokens - 1) / (memory_.most_queries - 1);
      for (int t = 0; t < tokens; ++t) {
        const bool see = query % 3 == 0 ? t >= seen : query % 3 == 1 ? t <= seen : t % 130 == seen % 130;
        bias[t] = see ? static_cast<float>(t % 7) : hidden;
      }
    }
    ExpectRight(p);
    if (HasFatalFailure()) return;
  }
}

// Beside a token with nearly all of the weight many others have a tenth of it together, none of them as much as a step
// of weights in int8.
TEST_P(ElAttentionTest, ManySmallWeights) {
  for (const int tokens : {64, 127, 128, 1000}) {
    Problem p = Make(6, 32, tokens, 3, 1.0f);
    for (std::vector<float>& q : p.q) q.assign(q.size(), 0.0f);
    for (int t = 0; t < tokens; ++t) p.states[t].assign(32, t % 128 == 5 ? 1.0f : -1.0f);
    p.bias.assign(p.q.size(), std::vector<float>(tokens));
    for (std::vector<float>& bias : p.bias) {
      for (int t = 0; t < tokens; ++t) bias[t] = t % 128 == 5 ? 0 : std::log(0.001f);
    }
    const int large = (tokens + 122) / 128;
    const float small = 0.001f * static_cast<float>(tokens - large);
    const float expected = (static_cast<float>(large) - small) / (static_cast<float>(large) + small);
    for (const std::vector<float>& row : RunAll(p)) {
      for (const float x : row) ASSERT_NEAR(x, expected, 0.01) << tokens << " tokens";
    }
  }
}

// A number that is none, in a state or in a query, is not hidden by rounding.
TEST_P(ElAttentionTest, WhatIsNoNumberStaysNone) {
  const int64_t d = 40;
  for (const float broken : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    Problem p = Make(7, d, 130, 3, 1.0f);
    p.q[1][7] = broken;
    const Rows of_query = RunAll(p);
    EXPECT_FALSE(std::isnan(of_query[0][0]));
    EXPECT_TRUE(std::isnan(of_query[1][0]) && std::isnan(of_query[1][d - 1]));
    p = Make(7, d, 130, 3, 1.0f);
    p.states[129][7] = broken;
    for (const std::vector<float>& row : RunAll(p)) EXPECT_TRUE(std::isnan(row[7]));
  }
}

// As of a token whose embedding is zeros.
TEST_P(ElAttentionTest, StatesOfZeros) {
  Problem p = Make(8, 40, 70, 5, 2.0f);
  for (const int t : {0, 30, 69}) p.states[t].assign(40, 0.0f);
  ExpectRight(p);
}

INSTANTIATE_TEST_SUITE_P(
    Levels, ElAttentionTest, testing::ValuesIn(Levels()), [](const testing::TestParamInfo<Level>& info) {
      std::string name = IsaName(info.param.isa);
      std::erase(name, '-');
      return name + (info.param.int8 ? "Int8" : info.param.type == DataType::kFloat32 ? "Float32" : "BFloat16");
    });
// A processor without AVX2 has no level.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ElAttentionTest);

}  // namespace
}  // namespace elserve::cpu
