#include "engine/memory/ancestry.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;

std::vector<int32_t> Cells(const Ancestry& ancestry, int64_t position, int64_t length) {
  const int32_t* begin = ancestry.table() + position * ancestry.stride();
  return {begin, begin + length};
}

TEST(Ancestry, TheFirstPositionHasNoPast) {
  Ancestry ancestry(2, 4);
  EXPECT_EQ(ancestry.stride(), 4);
  ancestry.BeginStep();
  ancestry.Continue(1, /*parent=*/-5, /*length=*/0, 42);
  EXPECT_THAT(Cells(ancestry, 1, 1), ElementsAre(42));
}

TEST(Ancestry, BeamsThatCrossKeepTheirOwnPasts) {
  Ancestry ancestry(3, 4);
  ancestry.BeginStep();
  ancestry.Continue(0, 0, 0, 10);
  ancestry.Continue(1, 0, 0, 20);
  ancestry.BeginStep();
  ancestry.Continue(0, 1, 1, 11);
  ancestry.Continue(1, 0, 1, 21);
  ancestry.Continue(2, 1, 1, 31);
  EXPECT_THAT(Cells(ancestry, 0, 2), ElementsAre(20, 11));
  EXPECT_THAT(Cells(ancestry, 1, 2), ElementsAre(10, 21));
  EXPECT_THAT(Cells(ancestry, 2, 2), ElementsAre(20, 31));
  ancestry.BeginStep();
  ancestry.Continue(0, 2, 2, 12);
  EXPECT_THAT(Cells(ancestry, 0, 3), ElementsAre(20, 31, 12));
}

TEST(Ancestry, FollowsRandomReordersAsPlainCopiesDo) {
  constexpr int kRows = 9, kSteps = 50;
  std::mt19937 rng(3);
  Ancestry ancestry(kRows, kSteps);
  std::vector<std::vector<int32_t>> plain(kRows);
  for (int step = 0; step < kSteps; ++step) {
    ancestry.BeginStep();
    std::vector<std::vector<int32_t>> next;
    for (int row = 0; row < kRows; ++row) {
      const int parent = static_cast<int>(rng() % kRows), cell = static_cast<int>(rng() % 10000);
      ancestry.Continue(row, parent, step, cell);
      next.push_back(plain[parent]);
      next.back().push_back(cell);
    }
    plain = next;
    for (int row = 0; row < kRows; ++row) ASSERT_EQ(Cells(ancestry, row, step + 1), plain[row]);
  }
}

}  // namespace
}  // namespace elserve
