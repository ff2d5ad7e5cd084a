#include "server/scheduling/computation.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace elserve {
namespace {

Computation Make(std::vector<int32_t> source, int beams, std::string principal) {
  DecodingSpec decoding;
  decoding.num_beams = beams;
  return Computation(std::move(source), std::move(decoding), std::move(principal));
}

TEST(ComputationTest, EqualWhereAllValuesAre) {
  const Computation one = Make({1, 2, 3}, 4, "p"), same = Make({1, 2, 3}, 4, "p");
  EXPECT_TRUE(one == same);
  EXPECT_EQ(one.hash(), same.hash());
  EXPECT_EQ(one.source_hash(), same.source_hash());
  EXPECT_EQ(one.source(), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(one.decoding().num_beams, 4);
}

TEST(ComputationTest, UnequalWhereOneIsNot) {
  const Computation one = Make({1, 2, 3}, 4, "p");
  const Computation source = Make({1, 2, 4}, 4, "p"), decoding = Make({1, 2, 3}, 5, "p"),
                    principal = Make({1, 2, 3}, 4, "q");
  for (const Computation* other : {&source, &decoding, &principal}) {
    EXPECT_FALSE(one == *other);
    EXPECT_NE(one.hash(), other->hash());
  }
  EXPECT_EQ(one.source_hash(), decoding.source_hash());
  EXPECT_EQ(one.source_hash(), principal.source_hash());
  EXPECT_NE(one.source_hash(), source.source_hash());
}

// As tables use them.
TEST(ComputationTest, TablesCompareWhatKeysPointTo) {
  const Computation one = Make({1}, 1, ""), same = Make({1}, 1, ""), other = Make({1}, 2, "");
  EXPECT_EQ(ComputationHash()(&one), ComputationHash()(&same));
  EXPECT_TRUE(EqualComputations()(&one, &one));
  EXPECT_TRUE(EqualComputations()(&one, &same));
  EXPECT_FALSE(EqualComputations()(&one, &other));
}

TEST(ComputationTest, CountsItsMemory) {
  EXPECT_GE(Make({1, 2, 3}, 4, "p").bytes(), sizeof(Computation) + 3 * sizeof(int32_t));
  EXPECT_EQ(Make(std::vector<int32_t>(1000), 4, "").bytes(), Make(std::vector<int32_t>(500), 4, "").bytes() + 2000);
  EXPECT_GT(Make({1}, 4, std::string(1000, 'p')).bytes(), Make({1}, 4, "").bytes() + 900);
}

}  // namespace
}  // namespace elserve
