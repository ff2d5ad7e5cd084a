#include "engine/memory/slot_pool.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::UnorderedElementsAre;

TEST(SlotPool, BeginsWithAllSlotsFree) {
  EXPECT_EQ(SlotPool(5).free(), 5);
  EXPECT_EQ(SlotPool(0).free(), 0);
}

TEST(SlotPool, GivesEachSlotOnce) {
  SlotPool pool(4);
  std::vector<int32_t> slots;
  pool.Take(1, &slots);
  pool.Take(3, &slots);
  EXPECT_THAT(slots, UnorderedElementsAre(0, 1, 2, 3));
  EXPECT_EQ(pool.free(), 0);
}

TEST(SlotPool, TakeAppendsAndReturnEmpties) {
  SlotPool pool(4);
  std::vector<int32_t> slots = {77};
  pool.Take(2, &slots);
  ASSERT_EQ(slots.size(), 3u);
  EXPECT_EQ(slots[0], 77);
  slots.erase(slots.begin());
  pool.Return(&slots);
  EXPECT_TRUE(slots.empty());
  EXPECT_EQ(pool.free(), 4);
}

TEST(SlotPool, TakingNothingChangesNothing) {
  SlotPool pool(0);
  std::vector<int32_t> slots;
  pool.Take(0, &slots);
  pool.Return(&slots);
  EXPECT_TRUE(slots.empty());
  EXPECT_EQ(pool.free(), 0);
}

// Random takes and returns: no slot is ever held twice, none gets lost, and no number comes from outside.
TEST(SlotPool, NeverGivesAHeldSlotNorLosesOne) {
  constexpr int kSlots = 100;
  std::mt19937 rng(1);
  SlotPool pool(kSlots);
  std::vector<std::vector<int32_t>> holders;
  std::vector<int> held(kSlots, 0);
  for (int i = 0; i < 20000; ++i) {
    if (rng() % 2 == 0) {
      const auto n = static_cast<int64_t>(rng() % 12);
      if (n > pool.free()) continue;
      std::vector<int32_t>& slots = holders.emplace_back();
      pool.Take(n, &slots);
      ASSERT_EQ(static_cast<int64_t>(slots.size()), n);
      for (int32_t slot : slots) {
        ASSERT_TRUE(slot >= 0 && slot < kSlots);
        ASSERT_EQ(held[slot]++, 0);
      }
    } else if (!holders.empty()) {
      std::swap(holders[rng() % holders.size()], holders.back());
      for (int32_t slot : holders.back()) --held[slot];
      pool.Return(&holders.back());
      holders.pop_back();
    }
    ASSERT_EQ(pool.free(), std::count(held.begin(), held.end(), 0));
  }
}

}  // namespace
}  // namespace elserve
