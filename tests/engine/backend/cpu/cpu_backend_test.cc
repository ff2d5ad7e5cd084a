// What the cpu backend alone promises, at every instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "tests/engine/backend/backends_under_test.h"
#include "tests/engine/backend/session.h"

namespace elserve {
namespace {

class CpuBackendTest : public testing::TestWithParam<BackendUnderTest> {
 protected:
  CpuBackendTest() : session_(GetParam().make(), GetParam().state_type) {}

  Backend& backend() { return session_.backend(); }

  Session session_;
};

// A page that was another document's keeps nothing of it behind the last token: here the next step reads on as if the
// document were longer.
TEST_P(CpuBackendTest, StoreEncoderClearsTheRestOfAPage) {
  constexpr int kWidth = 16, kTokens = 5;
  session_.AllocateMemory({.layers = 1, .d = kWidth, .heads = 1, .head_dim = kWidth}, 1, 1,
                          {.encode_positions = kPageTokens,
                           .decode_positions = 1,
                           .select_rows = 1,
                           .decoder_length = 1,
                           .source_length = kPageTokens});
  const Tensor states = session_.Allocate(kPageTokens, kWidth, Storage::kState);
  const Tensor query = session_.Allocate(1, kWidth, Storage::kState);
  const Tensor output = session_.Allocate(1, kWidth, Storage::kState);
  const std::vector<int32_t> pages = {0};
  for (const int tokens : {kPageTokens, kTokens}) {
    OwnedStep step = PlainStep(Phase::kEncode, tokens);
    step.encode_documents[0].pages = pages;
    backend().BeginStep(step.Layout());
    const float value = tokens == kTokens ? 1.0f : std::numeric_limits<float>::quiet_NaN();
    backend().Write(states, std::vector<float>(tokens * kWidth, value));
    backend().StoreEncoder({.layer = 0, .states = states});
  }
  OwnedStep step = PlainStep(Phase::kDecode, 1);
  step.decode_documents[0].length = kPageTokens;
  backend().BeginStep(step.Layout());
  backend().Write(query, std::vector<float>(kWidth, 0.0f));
  backend().CrossAttention({.phase = Phase::kDecode, .layer = 0, .query = query, .output = output});
  // All tokens weigh the same: five are 1, the others 0.
  for (const float value : backend().Read(output, 1)) EXPECT_NEAR(value, 5.0f / 64, 1e-3);
}

TEST_P(CpuBackendTest, AttentionWithoutDocumentsDoesNothing) {
  for (const AttentionForm form : {AttentionForm::kEl, AttentionForm::kKv}) {
    Session session(GetParam().make(), GetParam().state_type);
    session.AllocateMemory(
        {.cross = form, .self = form, .layers = 1, .d = 8, .heads = 1, .head_dim = 8}, 1, 1,
        {.encode_positions = 1, .decode_positions = 1, .select_rows = 1, .decoder_length = 1, .source_length = 1});
    const Tensor query = session.Allocate(1, 8, Storage::kState), output = session.Allocate(1, 8, Storage::kState);
    session.backend().BeginStep({});
    session.backend().CrossAttention({.phase = Phase::kDecode, .layer = 0, .query = query, .output = output});
    session.backend().SelfAttention({.layer = 0, .states = output, .query = query, .output = output});
  }
}

// Subnormal inputs are zeros, and so are subnormal results.
TEST_P(CpuBackendTest, ProductsFlushSubnormalNumbers) {
  constexpr int kIn = 40, kOut = 24;
  session_.AllocatePlainMemory(2);
  const Tensor input = session_.Allocate(2, kIn, Storage::kState),
               output = session_.Allocate(2, kOut, Storage::kResidual);
  const std::vector<float> weights(kIn * kOut, 1e-12f);
  const PackedWeightPtr weight = backend().PackLinear(View(weights, {kOut, kIn}), nullptr);
  OwnedStep step = PlainStep(Phase::kDecode, 2);
  backend().BeginStep(step.Layout());
  std::vector<float> values(2 * kIn, 1e-30f);                // times 1e-12: subnormal
  std::fill(values.begin() + kIn, values.end(), 0x1p-130f);  // subnormal itself
  const std::vector<float> large(kIn * kOut, 1e30f);
  const PackedWeightPtr large_weight = backend().PackLinear(View(large, {kOut, kIn}), nullptr);
  backend().Write(input, values);
  backend().Linear({.phase = Phase::kDecode, .input = input, .weight = weight.get(), .output = output});
  for (const float value : backend().Read(output, 2)) EXPECT_EQ(value, 0.0f);
  backend().Linear({.phase = Phase::kDecode, .input = input, .weight = large_weight.get(), .output = output});
  const std::vector<float> products = backend().Read(output, 2);
  for (int i = 0; i < kOut; ++i) {
    EXPECT_NEAR(products[i], static_cast<float>(kIn), 1.0f);
    EXPECT_EQ(products[kOut + i], 0.0f);
  }
}

// A score of -infinity, as a bias or an overflow makes it, is a weight of 0.
TEST_P(CpuBackendTest, AScoreOfMinusInfinityIsNoWeight) {
  constexpr int kHeads = 2, kHeadDim = 16, kTokens = 70;
  for (const bool el : {true, false}) {
    const AttentionForm form = el ? AttentionForm::kEl : AttentionForm::kKv;
    const int width = el ? kHeadDim : 2 * kHeads * kHeadDim, query_width = kHeads * kHeadDim;
    Session session(GetParam().make(), GetParam().state_type);
    session.AllocateMemory(
        {.cross = form, .self = form, .layers = 1, .d = kHeadDim, .heads = kHeads, .head_dim = kHeadDim}, 2, 8,
        {.encode_positions = kTokens,
         .decode_positions = 1,
         .select_rows = 1,
         .decoder_length = kTokens,
         .source_length = kTokens});
    const Tensor states = session.Allocate(kTokens, width, Storage::kState);
    const Tensor query = session.Allocate(1, query_width, Storage::kState);
    const Tensor output = session.Allocate(1, query_width, Storage::kState);
    const std::vector<int32_t> pages = {0, 1};
    OwnedStep encode = PlainStep(Phase::kEncode, kTokens);
    encode.encode_documents[0].pages = pages;
    // The first number of every head's key is -1e30 for each token but the fourth and the last: times 1e30 that is
    // -infinity.
    std::vector<float> values(kTokens * width, 0.5f);
    for (int t = 0; t < kTokens; ++t) {
      for (int head = 0; head < (el ? 1 : kHeads); ++head) {
        values[t * width + head * kHeadDim] = t == 3 || t == kTokens - 1 ? 0.0f : -1e30f;
      }
    }
    session.backend().BeginStep(encode.Layout());
    session.backend().Write(states, values);
    session.backend().StoreEncoder({.layer = 0, .states = states});
    std::vector<float> queries(query_width, 0.0f);
    for (int head = 0; head < kHeads; ++head) queries[head * kHeadDim] = 1e30f;
    OwnedStep decode = PlainStep(Phase::kDecode, 1);
    decode.decode_documents[0].length = kTokens;
    decode.decode_documents[0].pages = pages;
    session.backend().BeginStep(decode.Layout());
    session.backend().Write(query, queries);
    session.backend().CrossAttention({.phase = Phase::kDecode, .layer = 0, .query = query, .output = output});
    const std::vector<float> attended = session.backend().Read(output, 1);
    for (int i = 0; i < query_width; ++i) {
      EXPECT_EQ(attended[i], el && i % kHeadDim == 0 ? 0.0f : 0.5f) << (el ? "el" : "kv") << " column " << i;
    }
    // Self-attention over cells with the same keys.
    const Tensor row = session.Allocate(1, el ? width : query_width + width, Storage::kState);
    OwnedStep cells = PlainStep(Phase::kDecode, 1);
    cells.rows[0].ancestry.clear();
    for (int t = 0; t < kTokens; ++t) {
      cells.position_ids[0] = t;
      cells.rows[0].ancestry.push_back(t);
      session.backend().BeginStep(cells.Layout());
      session.backend().Write(query, queries);
      std::vector<float> state = el ? std::vector<float>() : queries;
      state.insert(state.end(), values.begin() + t * width, values.begin() + (t + 1) * width);
      session.backend().Write(row, state);
      session.backend().SelfAttention({.layer = 0, .states = row, .query = query, .output = output});
    }
    const std::vector<float> own = session.backend().Read(output, 1);
    for (int i = 0; i < query_width; ++i) {
      EXPECT_EQ(own[i], el && i % kHeadDim == 0 ? 0.0f : 0.5f) << (el ? "el" : "kv") << " self, column " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Levels, CpuBackendTest, testing::ValuesIn(BackendsUnderTest()), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace elserve
