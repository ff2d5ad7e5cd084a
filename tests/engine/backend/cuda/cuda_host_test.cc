// What of the cuda backend needs no device: buckets, what a card is assumed to reach, lists of attention's work, and
// what is said where there is no device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "engine/backend/cuda/buckets.h"
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/backend/cuda/device_figures.h"

namespace elserve::cuda {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Buckets, HoldTheirRows) {
  EXPECT_THAT(Buckets(160), ElementsAre(1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 160));
  EXPECT_THAT(Buckets(37), ElementsAre(1, 2, 4, 8, 16, 32, 37));
  EXPECT_THAT(Buckets(1), ElementsAre(1));
  EXPECT_EQ(Bucket(0, 100), 0);
  for (const int most : {1, 3, 37, 64, 100, 500}) {
    const std::vector<int> buckets = Buckets(most);
    const std::set<int> all(buckets.begin(), buckets.end());
    for (int rows = 1; rows <= most; ++rows) {
      EXPECT_GE(Bucket(rows, most), rows);
      EXPECT_LE(Bucket(rows, most), most);
      EXPECT_TRUE(all.contains(Bucket(rows, most))) << rows << " of " << most;
    }
  }
}

TEST(AssumedFigures, FollowTheCard) {
  // An H200: 132 multiprocessors at 1.83 GHz, 4.8 TB/s; its sheet says 989 TFLOP/s in bfloat16.
  const CardClocks h200{
      .major = 9, .minor = 0, .processors = 132, .clock_hertz = 1.83e9, .memory_hertz = 3.2e9, .memory_bits = 6144};
  const OperationFigures half = AssumedFigures(h200, DataType::kBFloat16);
  EXPECT_GT(half.product_flops, 0.2 * 989e12);
  EXPECT_LT(half.product_flops, 989e12);
  EXPECT_GT(half.bytes_per_second, 0.5 * 4.8e12);
  EXPECT_LT(half.bytes_per_second, 4.92e12);
  const OperationFigures single = AssumedFigures(h200, DataType::kFloat32);
  EXPECT_LT(single.product_flops, half.product_flops / 10);
  EXPECT_EQ(single.bytes_per_second, half.bytes_per_second);
  CardClocks a100 = h200;
  a100.major = 8;
  EXPECT_EQ(AssumedFigures(a100, DataType::kBFloat16).product_flops, half.product_flops / 2);
}

TEST(MakeCudaBackend, SaysWhatIsMissing) {
  constexpr int kNobodyHasSoMany = 4000;
  const auto backend = MakeCudaBackend({.device = kNobodyHasSoMany});
  ASSERT_FALSE(backend.ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(backend.status()) || absl::IsInvalidArgument(backend.status()));
  EXPECT_THAT(std::string(backend.status().message()), HasSubstr("device"));
  EXPECT_THAT(std::string(backend.status().message()), HasSubstr("cuda:4000"));
  const auto negative = MakeCudaBackend({.device = -1});
  EXPECT_FALSE(negative.ok());
}

}  // namespace
}  // namespace elserve::cuda
