// When what was kept of a row's logits is enough to choose from: a whole row costs a product of its own, so that it
// must not be asked for without need. What is chosen, backend_select_test checks.
#include <bit>
#include <cmath>
#include <vector>

#include "engine/backend/cpu/generic/select.inl.h"
#include "gtest/gtest.h"

namespace elserve::cpu {
namespace {

// Two candidates are wanted of 100 tokens, and six logits were kept.
class SelectTest : public testing::Test {
 protected:
  SelectTest() {
    row_.count = 2;
    for (int i = 0; i < row_.count + kSpareLogits; ++i) best_.push_back({10 * i, 5.0f - static_cast<float>(i)});
    kept_.best = best_.data();
    kept_.room = kept_.taken = static_cast<int32_t>(best_.size());
    for (const TokenLogit& best : best_) part_.sum += std::exp(best.logit - part_.reference);
  }

  SelectArgs Args() {
    return {.row = &row_,
            .vocab = 100,
            .kept = &kept_,
            .threads = 1,
            .kept_stride = 1,
            .parts = &part_,
            .parts_count = 1,
            .out = out_};
  }
  // Whether the best that were kept do.
  bool KeptDo() {
    const SelectArgs args = Args();
    const Kept kept = Gather(args);
    return ChooseKept(args, kept, ValuesOf(row_, nullptr, kept), row_.count);
  }

  SelectRow row_;
  std::vector<TokenLogit> best_;
  RowLogits kept_{};
  SumPart part_{5.0f, 0.0f};
  Candidate out_[kMaxCandidates];
};

TEST_F(SelectTest, LogitsThatDifferAreEnough) {
  EXPECT_TRUE(KeptDo());
  EXPECT_EQ(out_[0].token, 0);
  EXPECT_EQ(out_[1].token, 10);
}

// The last that was kept has the value of the last that is wanted: a token behind it, with a lower id, may have it too.
TEST_F(SelectTest, OneValueUpToTheLastThatWasKeptIsNotEnough) {
  for (size_t i = 1; i < best_.size(); ++i) best_[i].logit = 0.25f;
  EXPECT_FALSE(KeptDo());
  // Less 5 it is the same.
  best_.back().logit = std::bit_cast<float>(std::bit_cast<uint32_t>(0.25f) - 1);
  EXPECT_FALSE(KeptDo());
  best_.back().logit = 0.2f;
  EXPECT_TRUE(KeptDo());
}

// Ranked by the logits there is no such tie; and all that there are, are enough.
TEST_F(SelectTest, TiesOfLogitsAndShortVocabulariesAreEnough) {
  for (TokenLogit& best : best_) best.logit = 4.0f;
  row_.space = SelectSpace::kLogits;
  EXPECT_TRUE(KeptDo());
  row_.space = SelectSpace::kLogProbs;
  EXPECT_FALSE(KeptDo());
  kept_.taken -= 1;
  EXPECT_TRUE(KeptDo());
}

}  // namespace
}  // namespace elserve::cpu
