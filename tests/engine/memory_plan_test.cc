#include "engine/memory_plan.h"

#include <cstdint>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
constexpr int64_t kMiB = 1 << 20;

// BART-base in bfloat16: 6 layers, 12 heads of 64.
MemoryPlanInput Base() {
  MemoryPlanInput in;
  in.forms = kAllEl;
  in.el = {.per_encoder_page = 64 * 1536, .per_decoder_block = 16 * 6 * 1536};
  in.kv = {.per_encoder_page = 64 * 6 * 2 * 1536, .per_decoder_block = 16 * 6 * 2 * 1536};
  in.d_model = 768;
  in.layers = 6;
  in.heads = 12;
  in.head_dim = 64;
  in.ffn = 3072;
  in.vocab = 50265;
  in.bytes_per_weight = 2;
  in.max_source_tokens = in.max_decoder_tokens = 1024;
  in.max_rows = 256;
  in.budget_bytes = 512 * kMiB;
  in.figures = {.product_flops = 390e9,
                .el_attention_flops = 340e9,
                .kv_attention_flops = 225e9,
                .el_self_attention_flops = 160e9,
                .kv_self_attention_flops = 30e9,
                .bytes_per_second = 50e9};
  return in;
}

MemoryPlan Plan(const MemoryPlanInput& in) {
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(in);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return plan.ok() ? *plan : MemoryPlan{};
}

TEST(MemoryPlan, SpendsTheBudgetAndNoMore) {
  for (const AttentionForms forms : {kAllEl, kAllKv}) {
    for (const int64_t budget : {64 * kMiB, 100 * kMiB + 17, 300 * kMiB}) {
      MemoryPlanInput in = Base();
      in.forms = forms;
      in.budget_bytes = budget;
      in.max_rows = 850;
      const MemoryPlan plan = Plan(in);
      const MemoryCosts& costs = forms == kAllEl ? in.el : in.kv;
      EXPECT_EQ(plan.forms, forms);
      EXPECT_EQ(plan.bytes,
                plan.encoder_pages * costs.per_encoder_page + plan.decoder_blocks * costs.per_decoder_block);
      EXPECT_LE(plan.bytes, budget);
      EXPECT_GT(plan.bytes, budget - costs.per_encoder_page - costs.per_decoder_block);
    }
  }
}

// A typical sequence has 1024 source tokens (16 pages) and 4 beams of 64 tokens (16 blocks).
TEST(MemoryPlan, SharesInTheProportionOfATypicalSequence) {
  MemoryPlanInput in = Base();
  in.max_rows = 850;
  const MemoryPlan plan = Plan(in);
  EXPECT_NEAR(static_cast<double>(plan.encoder_pages) / static_cast<double>(plan.decoder_blocks), 1.0, 0.05);
}

TEST(MemoryPlan, TakesNoMoreThanMaxRowsSequencesCanUse) {
  MemoryPlanInput in = Base();
  in.max_rows = 4;
  in.budget_bytes = int64_t{100} << 30;
  const MemoryPlan plan = Plan(in);
  EXPECT_EQ(plan.encoder_pages, 4 * 16);
  EXPECT_EQ(plan.decoder_blocks, 4 * 64);
  EXPECT_LT(plan.bytes, 100 * kMiB);
}

// What one side cannot use goes to the other.
TEST(MemoryPlan, GivesTheOtherSideWhatOneCannotUse) {
  MemoryPlanInput in = Base();
  in.max_rows = 40;  // 640 pages at most: 60 MiB
  const MemoryPlan plan = Plan(in);
  EXPECT_EQ(plan.encoder_pages, 640);
  EXPECT_EQ(plan.decoder_blocks, 40 * 64);
}

TEST(MemoryPlan, ElHoldsManyMoreSourceTokensThanKv) {
  MemoryPlanInput in = Base();
  in.max_rows = 850;
  const MemoryPlan el = Plan(in);
  in.forms = kAllKv;
  EXPECT_GT(el.encoder_pages, 3 * Plan(in).encoder_pages);
}

TEST(MemoryPlan, OverridesAreRoundedUpToPagesAndBlocks) {
  MemoryPlanInput in = Base();
  in.encoder_memory_tokens = 2049;
  in.decoder_memory_tokens = 3001;
  in.budget_bytes = 1;  // no longer asked
  const MemoryPlan plan = Plan(in);
  EXPECT_EQ(plan.encoder_pages, 33);
  EXPECT_EQ(plan.decoder_blocks, 188);
  EXPECT_EQ(plan.bytes, 33 * in.el.per_encoder_page + 188 * in.el.per_decoder_block);
}

TEST(MemoryPlan, OneOverrideLeavesTheRestToTheOther) {
  MemoryPlanInput in = Base();
  in.max_rows = 850;
  in.encoder_memory_tokens = 2048;
  MemoryPlan plan = Plan(in);
  EXPECT_EQ(plan.encoder_pages, 32);
  EXPECT_EQ(plan.decoder_blocks, (in.budget_bytes - 32 * in.el.per_encoder_page) / in.el.per_decoder_block);

  in.encoder_memory_tokens = 0;
  in.decoder_memory_tokens = 2048;
  plan = Plan(in);
  EXPECT_EQ(plan.decoder_blocks, 128);
  EXPECT_EQ(plan.encoder_pages, (in.budget_bytes - 128 * in.el.per_decoder_block) / in.el.per_encoder_page);
}

TEST(MemoryPlan, TooLittleNamesTheMemoryThatWouldDo) {
  for (const AttentionForms forms : {kAllEl, kAllKv}) {
    MemoryPlanInput in = Base();
    in.forms = forms;
    in.budget_bytes = 3 * kMiB;
    const absl::Status status = PlanMemory(in).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("3.0 MiB"));
    // 16 pages and 64 blocks.
    EXPECT_THAT(status.message(), HasSubstr(forms == kAllEl ? "at least 10.5 MiB" : "at least 36.0 MiB"));
    EXPECT_THAT(status.message(), HasSubstr(forms == kAllEl ? "attention el" : "attention kv"));
  }
}

// The memory that the error names must do.
TEST(MemoryPlan, TheMemoryThatTheErrorNamesDoes) {
  for (const AttentionForms forms : {kAllEl, kAllKv}) {
    MemoryPlanInput in = Base();
    in.forms = forms;
    const MemoryCosts& costs = forms == kAllEl ? in.el : in.kv;
    in.budget_bytes = 16 * costs.per_encoder_page + 64 * costs.per_decoder_block;
    const MemoryPlan plan = Plan(in);
    EXPECT_GE(plan.encoder_pages, 16);
    EXPECT_GE(plan.decoder_blocks, 64);
    EXPECT_LE(plan.bytes, in.budget_bytes);
    in.budget_bytes -= 1;
    EXPECT_FALSE(PlanMemory(in).ok());
  }
}

TEST(MemoryPlan, OverridesTooSmallForOneSequenceAreErrors) {
  MemoryPlanInput in = Base();
  in.encoder_memory_tokens = 960;
  EXPECT_THAT(PlanMemory(in).status().message(), HasSubstr("960 source tokens"));
  in = Base();
  in.decoder_memory_tokens = 1008;
  EXPECT_THAT(PlanMemory(in).status().message(), HasSubstr("1008 decoder positions"));
  in = Base();
  in.budget_bytes = 0;
  EXPECT_FALSE(PlanMemory(in).ok());
}

// A checkpoint may state any number of positions; nothing is reserved for it that its memory does not stand for.
TEST(MemoryPlan, ListsForLengthsThatAConfigAloneStatesAreRefused) {
  MemoryPlanInput in = Base();
  in.max_source_tokens = in.max_decoder_tokens = 1 << 20;
  in.budget_bytes = int64_t{64} << 30;
  const absl::Status status = PlanMemory(in).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("max_rows 256"), HasSubstr("max_decoder_tokens 1048576"),
                    HasSubstr("lists of 19456.0 MiB"), HasSubstr("memory of 65536.0 MiB is 8192.0 MiB")));
  in.max_rows = 100;  // 7600 MiB
  EXPECT_TRUE(PlanMemory(in).ok());
}

TEST(MemoryPlan, ListsOfSixtyFourMebibytesAreAlwaysAllowed) {
  MemoryPlanInput in = Base();
  in.budget_bytes = 64 * kMiB;
  in.max_rows = 862;  // times 76 KiB: a little less than 64 MiB
  EXPECT_TRUE(PlanMemory(in).ok());
  in.max_rows = 863;
  EXPECT_THAT(PlanMemory(in).status().message(), HasSubstr("is 64.0 MiB"));
  in.max_decoder_tokens = 512;
  EXPECT_TRUE(PlanMemory(in).ok());
}

TEST(MemoryPlan, AutoSaysWhyInNumbers) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  const MemoryPlan plan = Plan(in);
  EXPECT_THAT(plan.reason, HasSubstr("1024 tokens"));
  EXPECT_THAT(plan.reason, HasSubstr("by el"));
  EXPECT_THAT(plan.reason, HasSubstr("by kv"));
}

TEST(MemoryPlan, AutoTakesKvWhereArithmeticIsTheLimitAndMemoryIsNot) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  in.bytes_per_weight = 4;
  in.el = {2 * in.el.per_encoder_page, 2 * in.el.per_decoder_block};
  in.kv = {2 * in.kv.per_encoder_page, 2 * in.kv.per_decoder_block};
  in.budget_bytes = int64_t{64} << 30;
  EXPECT_EQ(Plan(in).forms, kAllKv);
}

// With few heads EL multiplies little more than K/V, and reads half of it.
TEST(MemoryPlan, AutoTakesElWhereItMultipliesAsLittleAndReadsHalf) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  in.heads = 1;
  in.head_dim = 768;
  EXPECT_EQ(Plan(in).forms, kAllEl);
}

// Both forms are asked for with what they themselves cost: kv that does not fit is an error, el with the same budget is
// not.
TEST(MemoryPlan, AConfiguredFormIsNeverReplaced) {
  MemoryPlanInput in = Base();
  in.budget_bytes = 20 * kMiB;
  EXPECT_EQ(Plan(in).forms, kAllEl);
  in.forms = kAllKv;
  EXPECT_FALSE(PlanMemory(in).ok());
}

// auto must not fail for want of memory where one of the two forms fits.
TEST(MemoryPlan, AutoTakesTheFormThatFits) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  in.budget_bytes = 20 * kMiB;
  EXPECT_EQ(Plan(in).forms, kAllEl);
}

// The estimates by hand: products of 8 flops a weight and document (2 x 4 beams), or the weights' bytes once a batch;
// in each layer what attention multiplies, or the bytes that it reads.
TEST(MemoryPlan, TheEstimateIsTheOneOfTheDesign) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  in.budget_bytes = int64_t{40} << 30;
  in.figures = {.product_flops = 1e12,
                .el_attention_flops = 1e12,
                .kv_attention_flops = 1e12,
                .el_self_attention_flops = 1e11,
                .kv_self_attention_flops = 1e11,
                .bytes_per_second = 1e11};
  // 88.1 million weights: 0.71 ms. Cross el: 6 x 0.160 ms; kv: 6 x 0.031 ms. Self, 32 cells: 6 x 0.047 ms and 6 x 0.004
  // ms.
  EXPECT_THAT(Plan(in).reason, HasSubstr("1.95 ms by el (64 fit); 1.69 ms by el cross, kv self (64 fit); "
                                         "1.18 ms by kv cross, el self (64 fit); 0.92 ms by kv (64 fit)"));
  EXPECT_EQ(Plan(in).forms, kAllKv);
  // One document pays for reading all weights: 1.76 ms.
  in.max_rows = 4;
  EXPECT_THAT(Plan(in).reason, HasSubstr("3.01 ms by el (1 fit); 2.75 ms by el cross, kv self (1 fit)"));
  // Heads that are narrower than the model: 77.5 million weights, 0.62 ms. el: 6 x 0.080 ms; kv: 6 x 0.016 ms; half of
  // self-attention.
  in.max_rows = 256;
  in.heads = 6;
  in.kv = {.per_encoder_page = 64 * 6 * 2 * 768, .per_decoder_block = 16 * 6 * 2 * 768};
  EXPECT_THAT(Plan(in).reason, AllOf(HasSubstr("1.24 ms by el (64 fit)"), HasSubstr("0.73 ms by kv (64 fit)")));
  // An answer of 16 tokens has 8 cells on average.
  in.heads = 12;
  in.kv = Base().kv;
  in.max_decoder_tokens = 16;
  EXPECT_THAT(Plan(in).reason, HasSubstr("1.74 ms by el (64 fit)"));
}

// A typical document has 4 beams of 64 new tokens, or as many as the model can decode.
TEST(MemoryPlan, DocumentsAreLimitedByPagesByBlocksAndByRows) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  in.encoder_memory_tokens = 7 * 1024;
  in.decoder_memory_tokens = 9 * 256;
  EXPECT_THAT(Plan(in).reason, HasSubstr("by el (7 fit)"));
  in.decoder_memory_tokens = 5 * 256;
  EXPECT_THAT(Plan(in).reason, HasSubstr("by el (5 fit)"));
  in.max_rows = 12;
  EXPECT_THAT(Plan(in).reason, HasSubstr("by el (3 fit)"));
  in.max_rows = 256;
  in.max_decoder_tokens = 32;
  in.decoder_memory_tokens = 6 * 128;
  EXPECT_THAT(Plan(in).reason, HasSubstr("by el (6 fit)"));
}

// With 1024 source tokens EL multiplies 12 times what K/V does, and reads half of it.
TEST(MemoryPlan, AutoFollowsTheFiguresOfEachOperation) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  in.budget_bytes = int64_t{40} << 30;
  constexpr double kNoLimit = 1e18;
  // Arithmetic without end: what is read decides.
  in.figures = {.product_flops = kNoLimit,
                .el_attention_flops = kNoLimit,
                .kv_attention_flops = kNoLimit,
                .el_self_attention_flops = kNoLimit,
                .kv_self_attention_flops = kNoLimit,
                .bytes_per_second = 1e12};
  EXPECT_EQ(Plan(in).forms, kAllEl) << Plan(in).reason;
  // Memory without end: what is multiplied decides, in each form by its own figure.
  in.figures = {.product_flops = kNoLimit,
                .el_attention_flops = 1e12,
                .kv_attention_flops = 1e12,
                .el_self_attention_flops = 1e12,
                .kv_self_attention_flops = 1e12,
                .bytes_per_second = kNoLimit};
  EXPECT_EQ(Plan(in).forms, kAllKv) << Plan(in).reason;
  in.figures.el_attention_flops = 24e12;
  EXPECT_EQ(Plan(in).forms, (AttentionForms{AttentionForm::kEl, AttentionForm::kKv})) << Plan(in).reason;
  in.figures.el_self_attention_flops = 24e12;
  EXPECT_EQ(Plan(in).forms, kAllEl) << Plan(in).reason;
  // The queries' and sums' way through the heads' weights is EL's alone.
  in.figures.product_flops = 1e12;
  in.figures.kv_attention_flops = 4e12;
  EXPECT_EQ(Plan(in).forms.cross, AttentionForm::kKv) << Plan(in).reason;
}

// States in int8 are read in half of the time; and what keeps none of sources, or of a prompt, is no choice.
TEST(MemoryPlan, StatesInInt8) {
  MemoryPlanInput in = Base();
  in.forms = std::nullopt;
  in.int8 = true;
  in.budget_bytes = int64_t{40} << 30;
  in.figures.product_flops = in.figures.el_attention_flops = in.figures.el_self_attention_flops = 1e18;
  in.figures.kv_attention_flops = in.figures.kv_self_attention_flops = 1e18;
  in.figures.bytes_per_second = 1e11;
  // Weights of 88.1 million are 1.76 ms for 64 documents; cross el: 6 x 0.0157 ms, self el: 6 x 0.002 ms, kv: 0.004.
  EXPECT_EQ(Plan(in).forms, kAllEl);
  EXPECT_THAT(Plan(in).reason, HasSubstr("0.13 ms by el (64 fit); 0.15 ms by el cross, kv self (64 fit)"));
  EXPECT_THAT(Plan(in).reason, Not(HasSubstr("by kv")));
  in.el = {.per_encoder_page = 64 * 768, .per_decoder_block = 16 * 6 * 768};
  EXPECT_THAT(Plan(in).reason, HasSubstr("0.08 ms by el (64 fit); 0.10 ms by el cross, kv self (64 fit)"));
  in.cross_attention = false;
  in.max_source_tokens = 0;
  EXPECT_EQ(Plan(in).forms, (AttentionForms{std::nullopt, AttentionForm::kEl}));
  EXPECT_THAT(Plan(in).reason, Not(HasSubstr("by kv")));
}

// GPT-2 in bfloat16: 12 layers.
MemoryPlanInput DecoderOnly() {
  MemoryPlanInput in = Base();
  in.cross_attention = false;
  in.el = {.per_encoder_page = 0, .per_decoder_block = 16 * 12 * 1536};
  in.kv = {.per_encoder_page = 0, .per_decoder_block = 16 * 12 * 2 * 1536};
  in.layers = 12;
  in.max_source_tokens = 0;
  return in;
}

TEST(MemoryPlan, WithoutAnEncoderAllMemoryIsTheDecoders) {
  for (const AttentionForms forms : {kAllEl, kAllKv}) {
    MemoryPlanInput in = DecoderOnly();
    in.forms = forms;
    in.max_rows = 850;
    const int64_t block = (forms == kAllEl ? in.el : in.kv).per_decoder_block;
    const MemoryPlan plan = Plan(in);
    EXPECT_EQ(plan.forms, (AttentionForms{std::nullopt, forms.self}));
    EXPECT_EQ(ToString(plan.forms), forms == kAllEl ? "el" : "kv");
    EXPECT_EQ(plan.encoder_pages, 0);
    EXPECT_EQ(plan.decoder_blocks, in.budget_bytes / block);
    EXPECT_EQ(plan.bytes, plan.decoder_blocks * block);
    in.max_rows = 4;
    EXPECT_EQ(Plan(in).decoder_blocks, 4 * 64);
    in.decoder_memory_tokens = 2001;
    in.budget_bytes = 1;  // no longer asked
    EXPECT_EQ(Plan(in).decoder_blocks, 126);
    EXPECT_EQ(Plan(in).encoder_pages, 0);
  }
}

TEST(MemoryPlan, WithoutAnEncoderErrorsSpeakOfNoSource) {
  MemoryPlanInput in = DecoderOnly();
  in.budget_bytes = 64 * in.el.per_decoder_block;
  EXPECT_TRUE(PlanMemory(in).ok());
  in.budget_bytes -= 1;
  EXPECT_EQ(
      PlanMemory(in).status().message(),
      "memory: 18.0 MiB gives 1008 decoder positions; one sequence may need 1024: at least 18.0 MiB with attention "
      "el");
  in = DecoderOnly();
  in.max_decoder_tokens = 1 << 20;
  EXPECT_THAT(PlanMemory(in).status().message(), HasSubstr("max_rows 256 and max_decoder_tokens 1048576 need lists"));
}

// 4 beams behind a prompt of 960 tokens, half way through 64 new ones, and 123.5 million weights, without those of
// cross-attention: 0.99 ms, of products of 8 flops a weight. Self el: 12 x 1.463 ms; kv: 12 x 0.122 ms.
TEST(MemoryPlan, WithoutAnEncoderSelfAttentionIsChosenAlone) {
  MemoryPlanInput in = DecoderOnly();
  in.forms = std::nullopt;
  in.budget_bytes = int64_t{40} << 30;
  in.figures = {.product_flops = 1e12,
                .el_attention_flops = 1,
                .kv_attention_flops = 1,
                .el_self_attention_flops = 1e11,
                .kv_self_attention_flops = 1e11,
                .bytes_per_second = 1e12};
  const MemoryPlan plan = Plan(in);
  EXPECT_EQ(plan.forms, (AttentionForms{std::nullopt, AttentionForm::kKv}));
  EXPECT_EQ(
      plan.reason,
      "a decode step of a prompt of 960 tokens with 4 beams is estimated at 18.54 ms by el (64 fit); 2.45 ms by kv "
      "(64 fit)");
  in.figures.el_self_attention_flops = 24e11;
  EXPECT_EQ(Plan(in).forms, (AttentionForms{std::nullopt, AttentionForm::kEl})) << Plan(in).reason;
  // The prompt's cells are the beams' together: 76 blocks a sequence.
  in.decoder_memory_tokens = 5 * 76 * 16;
  EXPECT_THAT(Plan(in).reason, HasSubstr("by el (5 fit)"));
}

TEST(MemoryPlan, CrossAttentionNeedsAForm) {
  MemoryPlanInput in = Base();
  in.forms = {std::nullopt, AttentionForm::kEl};
  EXPECT_THAT(PlanMemory(in).status().message(), HasSubstr("attention: the model has cross-attention"));
}

}  // namespace
}  // namespace elserve
