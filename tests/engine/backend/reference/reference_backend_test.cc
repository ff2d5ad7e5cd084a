// The reference backend against numbers worked out by hand or taken from the formulas' sources.
#include "engine/backend/reference/reference_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "engine/backend/reference/operations.h"
#include "tests/engine/backend/decode_world.h"
#include "tests/engine/backend/session.h"

namespace elserve::reference {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::FloatNear;
using ::testing::Pointwise;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// torch.nn.functional's and transformers' ACT2FN values at -1 and 2.
TEST(Activations, AreThoseOfTransformers) {
  const struct {
    Activation activation;
    double at_minus_one, at_two;
  } cases[] = {{Activation::kNone, -1, 2},
               {Activation::kRelu, 0, 2},
               {Activation::kGelu, -0.15865525, 1.95449974},
               {Activation::kGeluTanh, -0.15880801, 1.95459769},
               {Activation::kGeluQuick, -0.15420423, 1.93565862},
               {Activation::kSilu, -0.26894142, 1.76159416},
               {Activation::kTanh, -0.76159416, 0.96402758}};
  for (const auto& c : cases) {
    EXPECT_NEAR(Activate(c.activation, -1), c.at_minus_one, 1e-7) << static_cast<int>(c.activation);
    EXPECT_NEAR(Activate(c.activation, 2), c.at_two, 1e-7) << static_cast<int>(c.activation);
  }
  EXPECT_TRUE(std::isnan(Activate(Activation::kRelu, NAN)));
}

TEST(Norms, ByHand) {
  const std::vector<float> input = {1, 3};  // mean 2, variance 1, mean square 5
  std::vector<float> output(2);
  NormWeight layer_norm;
  layer_norm.epsilon = 3;  // sqrt(1 + 3) = 2
  layer_norm.gamma = {2, 4};
  layer_norm.beta = {10, 20};
  NormRow(layer_norm, input.data(), output.data());
  EXPECT_THAT(output, ElementsAre(9, 22));
  NormWeight rms_norm;
  rms_norm.kind = NormKind::kRmsNorm;
  rms_norm.epsilon = 4;  // sqrt(5 + 4) = 3
  rms_norm.gamma = {3, 6};
  rms_norm.beta = {0, 0};
  NormRow(rms_norm, input.data(), output.data());
  EXPECT_THAT(output, ElementsAre(1, 6));
}

TEST(Attention, KeysAndValuesByHand) {
  // Two heads of width 1; weights of head 0: softmax(0, log 3) = 1/4, 3/4; of head 1: 1/2, 1/2.
  const float first[] = {0, 5, 4, 10};  // keys, then values
  const float second[] = {1, 5, 8, 20};
  const float query[] = {std::log(3.0f), 1};
  float output[2];
  const float* states[] = {first, second};
  const auto no_bias = [](int, int64_t) { return 0.0f; };
  Attend({.layout = KeysAndValues(2, 1), .query = query, .states = states, .bias = no_bias, .output = output});
  EXPECT_THAT(output, ElementsAre(FloatEq(7), FloatEq(15)));
}

TEST(Attention, HiddenStatesAreKeyAndValueOfEveryHead) {
  const float first[] = {0, 4};
  const float second[] = {1, 8};
  const float query[] = {std::log(3.0f), 0, 0, 0};
  float output[4];
  const float* states[] = {first, second};
  const auto no_bias = [](int, int64_t) { return 0.0f; };
  Attend({.layout = HiddenStates(2, 2), .query = query, .states = states, .bias = no_bias, .output = output});
  EXPECT_THAT(output, ElementsAre(FloatEq(0.75), FloatEq(7), FloatEq(0.5), FloatEq(6)));
}

std::vector<double> Weighed(const AttentionApproximation& approximation, std::vector<double> weights) {
  for (double& weight : weights) weight = std::log(weight);
  Weigh(approximation, weights);
  return weights;
}

TEST(Attention, TopKRenormalizesWhatIsLeft) {
  using testing::DoubleNear;
  EXPECT_THAT(Weighed({.top_k = 2}, {0.1, 0.3, 0.2, 0.4}),
              testing::Pointwise(DoubleNear(1e-12), std::vector<double>{0, 3.0 / 7, 0, 4.0 / 7}));
  // Among equals the first.
  EXPECT_THAT(Weighed({.top_k = 3}, {0.2, 0.2, 0.2, 0.4}),
              testing::Pointwise(DoubleNear(1e-12), std::vector<double>{0.25, 0.25, 0, 0.5}));
}

TEST(Attention, PrunedWeightsAreLeftOutAndTheOthersStay) {
  using testing::DoubleNear;
  constexpr AttentionApproximation kPruned = {.values = AttentionValues::kPruned, .threshold = 0.0025};
  // Of 4 tokens the threshold is 0.0025 * 384 / 4 = 0.24.
  EXPECT_THAT(Weighed(kPruned, {0.2, 0.25, 0.25, 0.3}),
              testing::Pointwise(DoubleNear(1e-7), std::vector<double>{0, 0.25, 0.25, 0.3}));
  // All are below 0.48: the largest stay.
  EXPECT_THAT(Weighed(kPruned, {0.4, 0.2, 0.4}),
              testing::Pointwise(DoubleNear(1e-7), std::vector<double>{0.4, 0, 0.4}));
  EXPECT_THAT(Weighed(kPruned, std::vector<double>(200, 1.0 / 200)),
              testing::Each(testing::DoubleNear(1.0 / 200, 1e-9)));
}

TEST(Attention, LogWeightsAreThePapersMiddles) {
  constexpr AttentionApproximation kLog = {.values = AttentionValues::kLog3Bit, .threshold = 1e-5};
  EXPECT_THAT(Weighed(kLog, {0.5, 0.3, 0.1, 0.05, 0.03, 0.015, 0.003, 0.0015, 0.0005}),
              testing::Pointwise(testing::FloatEq(), std::vector<float>{0.61054f, 0.22758f, 0.08483f, 0.03162f,
                                                                        0.03162f, 0.01179f, 0.00439f, 0.00164f, 0.0f}));
  // Of a long row all weights are below the scale: the largest become its first value.
  std::vector<double> flat(2000, 0.9 / 1999);
  flat[7] = 1e-3 * 0.9;
  const std::vector<double> weights = Weighed(kLog, flat);
  EXPECT_FLOAT_EQ(static_cast<float>(weights[7]), 0.00164f);
  EXPECT_EQ(std::count(weights.begin(), weights.end(), 0.0), 1999);
}

// The scale is [10^-3, 1] in seven equal parts of the logarithm, and a value is the middle of its part.
TEST(Attention, LogEdgesAndValuesAreOneScale) {
  for (int i = 0; i < kLogValues; ++i) {
    EXPECT_NEAR(kLogEdges[i], std::pow(10.0, -3 + 3.0 * i / kLogValues), 1e-6 * kLogEdges[i]) << i;
    EXPECT_NEAR(kLogValue[i], std::pow(10.0, -3 + 3.0 * (i + 0.5) / kLogValues), 5e-6) << i;
  }
}

TEST(Weights, OfEveryTypeKeepTheirValues) {
  const std::vector<uint16_t> halves = {0x3c00, 0xc000, 0x0001, 0x8400, 0x7bff, 0x7c00, 0x0000};
  EXPECT_THAT(
      ToFloats({.type = DataType::kFloat16, .shape = {7}, .data = reinterpret_cast<const std::byte*>(halves.data())}),
      ElementsAre(1.0f, -2.0f, std::ldexp(1.0f, -24), -std::ldexp(1.0f, -14), 65504.0f, kInfinity, 0.0f));
  const std::vector<uint16_t> brains = {0x3f80, 0xc000, 0x3fc0};
  EXPECT_THAT(
      ToFloats({.type = DataType::kBFloat16, .shape = {3}, .data = reinterpret_cast<const std::byte*>(brains.data())}),
      ElementsAre(1.0f, -2.0f, 1.5f));
}

// Probabilities 1/8, 2/8, 4/8, 1/8.
std::vector<float> Logits() { return {0, std::log(2.0f), std::log(4.0f), 0}; }

TEST(Select, LogProbsAreRankedAfterTheEdits) {
  const std::vector<LogitEdit> edits = {{.token = 2, .ban = true}};
  std::vector<Candidate> candidates;
  ASSERT_TRUE(SelectCandidates({.count = 4, .force = {}, .edits = edits}, Logits(), &candidates));
  ASSERT_EQ(candidates.size(), 4u);
  EXPECT_EQ(candidates[0].token, 1);
  EXPECT_FLOAT_EQ(candidates[0].value, std::log(2.0f / 8));
  EXPECT_EQ(candidates[1].token, 0);  // ties: the lower id first
  EXPECT_EQ(candidates[2].token, 3);
  EXPECT_EQ(candidates[3].token, 2);
  EXPECT_EQ(candidates[3].value, -kInfinity);
  EXPECT_FLOAT_EQ(candidates[3].logprob, std::log(4.0f / 8));  // of the unedited logits
}

TEST(Select, RenormalizeIsALogSoftmaxOfWhatIsLeft) {
  const std::vector<LogitEdit> edits = {{.token = 2, .ban = true}};
  std::vector<Candidate> candidates;
  ASSERT_TRUE(SelectCandidates({.count = 1, .force = {}, .edits = edits, .renormalize = true}, Logits(), &candidates));
  EXPECT_EQ(candidates[0].token, 1);
  EXPECT_FLOAT_EQ(candidates[0].value, std::log(2.0f / 4));
}

TEST(Select, LogitsAreAddedToThenMultipliedByTheirSign) {
  // 0 + 3 = 3, * 0.5 = 1.5; log 2 - 5 < 0, * 2; log 4 is banned whatever else the edit says.
  const std::vector<LogitEdit> edits = {{.token = 0, .add = 3, .negative = 9, .positive = 0.5f},
                                        {.token = 1, .add = -5, .negative = 2, .positive = 9},
                                        {.token = 2, .ban = true, .add = 1, .negative = 0, .positive = 0}};
  std::vector<Candidate> candidates;
  const SelectRow row = {.space = SelectSpace::kLogits, .count = 9, .force = {}, .edits = edits};
  ASSERT_TRUE(SelectCandidates(row, Logits(), &candidates));
  ASSERT_EQ(candidates.size(), 4u);  // the whole vocabulary
  EXPECT_EQ(candidates[0].token, 0);
  EXPECT_FLOAT_EQ(candidates[0].value, 1.5f);
  EXPECT_EQ(candidates[2].token, 1);
  EXPECT_FLOAT_EQ(candidates[2].value, (std::log(2.0f) - 5) * 2);
  EXPECT_EQ(candidates[3].token, 2);
  EXPECT_EQ(candidates[3].value, -kInfinity);
}

TEST(Select, ForceComesBeforeTheEdits) {
  const std::vector<int32_t> force = {3, 1};
  const std::vector<LogitEdit> edits = {{.token = 1, .ban = true}};
  std::vector<Candidate> candidates;
  ASSERT_TRUE(SelectCandidates({.count = 2, .force = force, .edits = edits}, Logits(), &candidates));
  EXPECT_EQ(candidates[0].token, 3);
  EXPECT_EQ(candidates[0].value, 0);
  EXPECT_FLOAT_EQ(candidates[0].logprob, std::log(1.0f / 8));
  EXPECT_EQ(candidates[1].token, 0);
  EXPECT_EQ(candidates[1].value, -kInfinity);
}

TEST(Select, SaysWhereLogitsAreNotFinite) {
  std::vector<Candidate> candidates;
  EXPECT_FALSE(SelectCandidates({}, std::vector<float>{0, NAN}, &candidates));
  EXPECT_FALSE(SelectCandidates({}, std::vector<float>{0, kInfinity}, &candidates));
  EXPECT_FALSE(SelectCandidates({}, std::vector<float>{-kInfinity, -kInfinity}, &candidates));
  EXPECT_TRUE(SelectCandidates({}, std::vector<float>{0, -kInfinity}, &candidates));
}

// The identity that EL-attention is built on, through PackPerHead and both memory forms: softmax((q W_K^T) H^T) H W_V
// is softmax(q (H W_K)^T) (H W_V).
TEST(ReferenceBackend, HiddenStatesGiveWhatKeysAndValuesGive) {
  constexpr int kHeads = 3, kHeadDim = 8, kWidth = 40;
  const DecodeWorld world(1, {{.length = 70, .rows = 3, .history = 4}, {.length = 5, .rows = 2, .history = 1}});
  const auto positions = static_cast<int64_t>(world.positions().size());
  const int64_t tokens = world.SourceTokens();
  const std::vector<float> hidden = RandomValues(2, tokens * kWidth, 1);
  const std::vector<float> queries = RandomValues(3, positions * kHeads * kHeadDim, 0.7f);
  const std::vector<float> w_k = RandomValues(4, kHeads * kHeadDim * kWidth, 0.16f);  // [heads, d_k, d]
  const std::vector<float> w_v = RandomValues(5, kHeads * kWidth * kHeadDim, 0.16f);  // [heads, d, d_k]

  std::vector<float> keys_values;  // [tokens, 2 heads d_k]
  for (int64_t t = 0; t < tokens; ++t) {
    const float* h = &hidden[t * kWidth];
    for (int i = 0; i < kHeads * kHeadDim; ++i) {
      keys_values.push_back(static_cast<float>(Dot(h, &w_k[i * kWidth], kWidth)));
    }
    for (int i = 0; i < kHeads * kHeadDim; ++i) {
      double sum = 0;
      for (int j = 0; j < kWidth; ++j) sum += h[j] * w_v[(i / kHeadDim * kWidth + j) * kHeadDim + i % kHeadDim];
      keys_values.push_back(static_cast<float>(sum));
    }
  }

  std::vector<int> all;
  for (int p = 0; p < positions; ++p) all.push_back(p);
  const auto attend = [&](bool el) {
    const AttentionForm form = el ? AttentionForm::kEl : AttentionForm::kKv;
    Session session(MakeReferenceBackend(), DataType::kFloat32);
    Backend& backend = session.backend();
    session.AllocateMemory(
        {.cross = form, .self = form, .layers = 1, .d = kWidth, .heads = kHeads, .head_dim = kHeadDim},
        world.page_count(), world.block_count(), world.Limits());
    const Tensor states = session.Allocate(tokens, el ? kWidth : 2 * kHeads * kHeadDim, Storage::kState);
    world.StoreDocuments(session, 0, states, el ? hidden : keys_values);
    const Tensor q = session.Allocate(positions, kHeads * kHeadDim, Storage::kState);
    const Tensor c = session.Allocate(positions, kHeads * kHeadDim, Storage::kState);
    OwnedStep step = world.Step(all);
    backend.BeginStep(step.Layout());
    backend.Write(q, queries);
    if (!el) {
      backend.CrossAttention({.phase = Phase::kDecode, .layer = 0, .query = q, .output = c});
      return backend.Read(c, positions);
    }
    const Tensor wide_q = session.Allocate(positions, kHeads * kWidth, Storage::kState);
    const Tensor wide_c = session.Allocate(positions, kHeads * kWidth, Storage::kState);
    const PackedWeightPtr pack_k = backend.PackPerHead(View(w_k, {kHeads, kHeadDim, kWidth}), nullptr);
    const PackedWeightPtr pack_v = backend.PackPerHead(View(w_v, {kHeads, kWidth, kHeadDim}), nullptr);
    backend.PerHeadLinear({.phase = Phase::kDecode, .input = q, .weight = pack_k.get(), .output = wide_q});
    backend.CrossAttention({.phase = Phase::kDecode, .layer = 0, .query = wide_q, .output = wide_c});
    backend.PerHeadLinear({.phase = Phase::kDecode, .input = wide_c, .weight = pack_v.get(), .output = c});
    return backend.Read(c, positions);
  };
  EXPECT_THAT(attend(true), Pointwise(FloatNear(2e-6f), attend(false)));
}

TEST(ReferenceBackend, CostsAreWhatMemoryTakes) {
  const auto backend = MakeReferenceBackend();
  const MemoryCosts el = backend->Costs(
      {.cross = AttentionForm::kEl, .self = AttentionForm::kEl, .layers = 3, .d = 10, .heads = 2, .head_dim = 8});
  EXPECT_EQ(el.per_encoder_page, 64 * 10 * 4);
  EXPECT_EQ(el.per_decoder_block, 3 * 16 * 10 * 4);
  const MemoryCosts kv = backend->Costs(
      {.cross = AttentionForm::kKv, .self = AttentionForm::kKv, .layers = 3, .d = 10, .heads = 2, .head_dim = 8});
  EXPECT_EQ(kv.per_encoder_page, 3 * 64 * 32 * 4);
  EXPECT_EQ(kv.per_decoder_block, 3 * 16 * 32 * 4);
}

TEST(ReferenceBackendDeathTest, LayoutsThatBreakTheContractEndTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Session session(MakeReferenceBackend(), DataType::kFloat32);
  session.AllocatePlainMemory(4);
  OwnedStep step = PlainStep(Phase::kDecode, 2);
  step.rows[1].ancestry = step.rows[0].ancestry;
  EXPECT_DEATH(session.backend().BeginStep(step.Layout()), "no two positions write one cell");
  step = PlainStep(Phase::kDecode, 2);
  step.decode_documents[0].positions = 1;
  EXPECT_DEATH(session.backend().BeginStep(step.Layout()), "every decode position is one document's");
  step = PlainStep(Phase::kDecode, 5);
  EXPECT_DEATH(session.backend().BeginStep(step.Layout()), "a phase's positions are within the limit");
  step = PlainStep(Phase::kEncode, 4);
  step.encode_documents[0].length = 3;
  EXPECT_DEATH(session.backend().BeginStep(step.Layout()), "encode documents hold all positions");
}

}  // namespace
}  // namespace elserve::reference
