#include "engine/memory/ancestry.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;

TEST(Ancestry, BeamsThatCrossKeepTheirOwnPasts) {
  Ancestry ancestry;
  ancestry.Reserve(3, 4);
  ancestry.Append(0, 0, 10);
  ancestry.Reorder(std::vector<int32_t>{0, 0}, 1);
  ancestry.Append(0, 1, 11);
  ancestry.Append(1, 1, 21);
  ancestry.Reorder(std::vector<int32_t>{1, 0, 1}, 2);
  ancestry.Append(0, 2, 12);
  ancestry.Append(1, 2, 22);
  ancestry.Append(2, 2, 32);
  EXPECT_THAT(ancestry.cells(0, 3), ElementsAre(10, 21, 12));
  EXPECT_THAT(ancestry.cells(1, 3), ElementsAre(10, 11, 22));
  EXPECT_THAT(ancestry.cells(2, 3), ElementsAre(10, 21, 32));
}

TEST(Ancestry, FollowsRandomReordersAsPlainCopiesDo) {
  constexpr int kRows = 9, kSteps = 50;
  std::mt19937 rng(3);
  Ancestry ancestry;
  for (int sequence = 0; sequence < 20; ++sequence) {
    ancestry.Reserve(kRows, kSteps);
    std::vector<std::vector<int32_t>> plain(1);
    for (int step = 0; step < kSteps; ++step) {
      // Rows that stay in their places are as good as any.
      std::vector<int32_t> parents(1 + rng() % kRows);
      const bool stay = rng() % 3 == 0 && parents.size() <= plain.size();
      for (size_t row = 0; row < parents.size(); ++row) {
        parents[row] = static_cast<int32_t>(stay ? row : rng() % plain.size());
      }
      ancestry.Reorder(parents, step);
      std::vector<std::vector<int32_t>> next;
      for (size_t row = 0; row < parents.size(); ++row) {
        const auto cell = static_cast<int32_t>(rng() % 10000);
        ancestry.Append(static_cast<int>(row), step, cell);
        next.push_back(plain[parents[row]]);
        next.back().push_back(cell);
      }
      plain = next;
      for (size_t row = 0; row < plain.size(); ++row) {
        ASSERT_THAT(ancestry.cells(static_cast<int>(row), step + 1), testing::ElementsAreArray(plain[row]));
      }
    }
  }
}

}  // namespace
}  // namespace elserve
