// The attention kernels' work, planned on the host: every query meets every token once, within the bounds.
#include "engine/backend/cuda/work_items.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace elserve::cuda {
namespace {

// Documents of random lengths and positions, and their rows' histories.
struct Step {
  std::vector<int32_t> tokens;
  std::vector<DecodeRow> rows;
  std::vector<std::vector<int32_t>> pages;
  std::vector<DecodeDocument> documents;

  DecodeLayout Layout() const {
    return {.tokens = tokens, .position_ids = {}, .rows = rows, .documents = documents, .select = {}};
  }
};

Step RandomStep(std::mt19937& engine, int longest) {
  const auto below = [&](int n) { return static_cast<int>(engine() % static_cast<uint32_t>(n)); };
  Step step;
  const int documents = 1 + below(12);
  for (int d = 0; d < documents; ++d) {
    const int positions = below(4) == 0 ? 1 + below(70) : 1 + below(8), length = 1 + below(longest);
    step.pages.emplace_back((length + kPageTokens - 1) / kPageTokens, 0);
    step.documents.push_back(
        {.begin = static_cast<int32_t>(step.tokens.size()), .positions = positions, .length = length, .pages = {}});
    step.tokens.insert(step.tokens.end(), positions, 0);
    // Rows of one position, or one of them all.
    const int each = positions < longest && below(3) == 0 ? positions : 1;
    for (int p = 0; p < positions; p += each) {
      step.rows.push_back({.begin = static_cast<int32_t>(step.tokens.size()) - positions + p,
                           .positions = each,
                           .first = below(longest - each + 1),
                           .ancestry = {}});
    }
  }
  for (int d = 0; d < documents; ++d) step.documents[d].pages = step.pages[d];
  return step;
}

// What a lane or position has to read: entries of the page list or of the ancestry.
struct Reading {
  int source = 0;
  int tokens = 0;
};

void ExpectCovered(const AttentionGeometry& geometry, const std::vector<Reading>& expected,
                   const std::vector<AttentionItem>& items, int tokens_per_entry, const AttentionBounds& bounds) {
  ASSERT_LE(static_cast<int64_t>(items.size()), bounds.items);
  EXPECT_TRUE(
      std::is_sorted(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.tokens > b.tokens; }));
  std::vector<std::map<int, int>> parts(expected.size());  // of each query: where a part begins -> its tokens
  std::set<std::pair<int, int>> arrivals;                  // of tiles in splits: the counter and the tile's first query
  std::set<int64_t> partials;
  for (const AttentionItem& item : items) {
    for (int r = 0; r < item.count; ++r) {
      const int begin = (item.source - expected[item.first + r].source) * tokens_per_entry;
      EXPECT_TRUE(parts[item.first + r].emplace(begin, item.tokens).second);
      if (item.splits == 1) continue;
      EXPECT_TRUE(partials.insert(int64_t{item.partial} + item.split * item.count + r).second);
    }
    if (item.splits > 1) arrivals.emplace(item.arrival, item.first);
  }
  for (size_t q = 0; q < expected.size(); ++q) {
    int end = 0;
    for (const auto& [begin, tokens] : parts[q]) {
      EXPECT_EQ(begin, end);
      end = begin + tokens;
    }
    EXPECT_EQ(end, expected[q].tokens);
    EXPECT_EQ(parts[q].size(), (expected[q].tokens + SplitTokens(geometry, expected[q].tokens) - 1) /
                                   SplitTokens(geometry, expected[q].tokens));
  }
  // In the K/V form a tile has a counter, and a row a partial result, for each head.
  const int64_t heads = geometry.el ? 1 : geometry.heads;
  for (const auto& [arrival, first] : arrivals) {
    EXPECT_LT(arrival * heads, bounds.arrivals);
    EXPECT_EQ(std::count_if(arrivals.begin(), arrivals.end(), [a = arrival](const auto& x) { return x.first == a; }),
              1);
  }
  if (!partials.empty()) {
    EXPECT_LE((*partials.rbegin() + 1) * heads, bounds.partial_rows);
  }
}

TEST(WorkItems, EveryQueryMeetsEveryTokenOnce) {
  std::mt19937 engine(7);
  for (int round = 0; round < 200; ++round) {
    const int longest = round % 2 == 0 ? 300 : 20000;
    const AttentionGeometry geometry = {
        .el = round % 4 < 2, .heads = 1 + static_cast<int>(engine() % 40), .d = 64, .head_dim = 8};
    const Step step = RandomStep(engine, longest);
    const DecodeLayout layout = step.Layout();
    const int queries_each = geometry.el ? geometry.heads : 1;

    std::vector<Reading> cross, self;
    int pages = 0, cells = 0;
    for (const DecodeDocument& document : layout.documents) {
      cross.insert(cross.end(), document.positions * queries_each, {pages, document.length});
      pages += static_cast<int>(document.pages.size());
    }
    for (const DecodeRow& row : layout.rows) {
      for (int j = 0; j < row.positions; ++j) self.insert(self.end(), queries_each, {cells, row.first + j + 1});
      cells += row.first + row.positions;
    }
    const AttentionBounds cross_bounds = BoundCrossAttention(geometry, layout.positions(), longest);
    std::vector<AttentionItem> items(cross_bounds.items);
    items.resize(PlanCrossAttention(geometry, layout, items.data()));
    ExpectCovered(geometry, cross, items, kPageTokens, cross_bounds);

    const AttentionBounds self_bounds = BoundSelfAttention(geometry, layout.positions(), longest);
    items.assign(self_bounds.items, {});
    items.resize(PlanSelfAttention(geometry, layout, items.data()));
    ExpectCovered(geometry, self, items, 1, self_bounds);
    if (HasFailure()) return;
  }
}

TEST(WorkItems, EncoderTilesHoldEachPositionOnce) {
  const std::vector<EncodeDocument> documents = {{.begin = 0, .length = 1, .pages = {}},
                                                 {.begin = 1, .length = 129, .pages = {}},
                                                 {.begin = 130, .length = 256, .pages = {}}};
  const std::vector<int32_t> tokens(386);
  std::vector<EncodeItem> items(BoundEncoderAttention(386));
  items.resize(PlanEncoderAttention({.tokens = tokens, .position_ids = tokens, .documents = documents}, items.data()));
  std::vector<int> seen(386);
  for (const EncodeItem& item : items) {
    EXPECT_LE(item.count, kEncoderTile);
    for (int p = item.first; p < item.first + item.count; ++p) {
      ++seen[p];
      EXPECT_TRUE(p >= item.begin && p < item.begin + item.length);
    }
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 386);
}

}  // namespace
}  // namespace elserve::cuda
