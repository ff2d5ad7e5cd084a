// What only the cuda backend does: errors that stick, memory that is not there, steps that are replayed. Needs a
// device.
#include "engine/backend/cuda/cuda_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/cuda/cuda_backend.h"
#include "tests/engine/backend/cuda/cuda_under_test.h"
#include "tests/engine/backend/session.h"

namespace elserve::cuda {
namespace {

using ::testing::HasSubstr;

constexpr int kRows = 40, kVocab = 50, kWidth = 24;

// A decoder of one product between the embedding and the choice: enough to be captured.
class TinyDecoder {
 public:
  explicit TinyDecoder(Backend& backend) : backend_(backend) {
    const std::vector<float> table = RandomValues(1, kVocab * kWidth, 1.0f);
    const std::vector<float> gamma(kWidth, 1.0f);
    tokens_ = backend.PackEmbedding(View(table, {kVocab, kWidth}));
    norm_ = backend.PackNorm(NormKind::kRmsNorm, View(gamma, {kWidth}), nullptr, 1e-5f);
    head_ = backend.PackLinear(View(table, {kVocab, kWidth}), nullptr);
    const absl::Status status = backend.AllocateMemory({.layers = 1, .d = 8, .heads = 1, .head_dim = 8}, 1, 3,
                                                       {.encode_positions = 1,
                                                        .decode_positions = kRows,
                                                        .select_rows = kRows,
                                                        .decoder_length = 64,
                                                        .source_length = 64});
    EXPECT_TRUE(status.ok()) << status;
    residual_ = *backend.AllocateTensor(kRows, kWidth, Storage::kResidual);
    state_ = *backend.AllocateTensor(kRows, kWidth, Storage::kState);
  }

  void Body() {
    backend_.Embed({Phase::kDecode, tokens_.get(), 1.0f, nullptr, 0, residual_});
    backend_.Norm({Phase::kDecode, residual_, norm_.get(), nullptr, state_});
    backend_.SelectTokens({Phase::kDecode, state_, head_.get()});
  }
  // The best token after each of `tokens`, and its value; or the error.
  absl::StatusOr<std::vector<std::pair<int32_t, float>>> Step(const std::vector<int32_t>& tokens) {
    OwnedStep step = PlainStep(Phase::kDecode, tokens, std::vector<int32_t>(tokens.size(), 0));
    for (int32_t p = 0; p < static_cast<int32_t>(tokens.size()); ++p) {
      step.select.push_back({.position = p, .space = SelectSpace::kLogits, .count = 1, .force = {}, .edits = {}});
    }
    backend_.BeginStep(step.Layout());
    backend_.Replay([this] { Body(); });
    const auto selected = backend_.Selected();
    if (!selected.ok()) return selected.status();
    std::vector<std::pair<int32_t, float>> best;
    for (const SelectedRow& row : *selected) best.emplace_back(row.candidates[0].token, row.candidates[0].value);
    return best;
  }

 private:
  Backend& backend_;
  PackedWeightPtr tokens_, norm_, head_;
  Tensor residual_, state_;
};

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!CudaIsUnderTest()) GTEST_SKIP() << "there is no CUDA device";
    auto context = Context::Create(0);
    ASSERT_TRUE(context.ok()) << context.status();
    context_ = context->get();
    backend_ = std::make_unique<CudaBackend>(*std::move(context), DataType::kFloat32);
  }

  Context* context_ = nullptr;  // the backend's
  std::unique_ptr<CudaBackend> backend_;
};

TEST_F(CudaDeviceTest, ReplaysWithEveryStepsOwnLayout) {
  TinyDecoder decoder(*backend_);
  std::vector<std::pair<int32_t, float>> alone;
  for (int32_t token = 0; token < kVocab; ++token) {
    const auto best = decoder.Step({token});
    ASSERT_TRUE(best.ok()) << best.status();
    alone.push_back(best->at(0));
  }
  for (const bool prepared : {false, true}) {
    if (prepared) {
      ASSERT_TRUE(backend_->Prepare(Phase::kDecode, [&] { decoder.Body(); }).ok());
    }
    for (int rows = 1; rows <= kRows; ++rows) {
      std::vector<int32_t> tokens;
      for (int r = 0; r < rows; ++r) tokens.push_back((7 * rows + 3 * r) % kVocab);
      const auto best = decoder.Step(tokens);
      ASSERT_TRUE(best.ok()) << best.status();
      ASSERT_EQ(best->size(), tokens.size());
      for (int r = 0; r < rows; ++r) EXPECT_EQ(best->at(r), alone[tokens[r]]) << "row " << r << " of " << rows;
    }
  }
}

TEST_F(CudaDeviceTest, AnErrorSticks) {
  TinyDecoder decoder(*backend_);
  ASSERT_TRUE(decoder.Step({1, 2, 3}).ok());
  EXPECT_FALSE(context_->Check(cudaErrorIllegalAddress, "CrossAttention"));
  for (int again = 0; again < 2; ++again) {
    const auto failed = decoder.Step({1, 2, 3});
    EXPECT_TRUE(absl::IsInternal(failed.status())) << failed.status();
    EXPECT_THAT(std::string(failed.status().message()), HasSubstr("CrossAttention"));
  }
  context_->Check(cudaErrorUnknown, "another");
  EXPECT_THAT(std::string(decoder.Step({1}).status().message()), HasSubstr("CrossAttention"));
  EXPECT_TRUE(absl::IsInternal(backend_->AllocateTensor(1, 8, Storage::kState).status()));
  EXPECT_TRUE(absl::IsInternal(backend_->Prepare(Phase::kDecode, [&] { decoder.Body(); })));
}

TEST_F(CudaDeviceTest, MemoryThatIsNotThereIsNoDeviceError) {
  const auto huge = backend_->AllocateTensor(int64_t{1} << 30, int64_t{1} << 20, Storage::kResidual);
  EXPECT_TRUE(absl::IsResourceExhausted(huge.status())) << huge.status();
  const auto small = backend_->AllocateTensor(4, 8, Storage::kResidual);
  EXPECT_TRUE(small.ok()) << small.status();
}

TEST_F(CudaDeviceTest, SaysWhatIsFree) {
  const std::optional<int64_t> before = backend_->FreeBytes();
  ASSERT_TRUE(before.has_value());
  EXPECT_GT(*before, 0);
  constexpr int64_t kBytes = int64_t{256} << 20;
  ASSERT_TRUE(backend_->AllocateTensor(kBytes / 4096, 1024, Storage::kResidual).ok());
  EXPECT_LE(*backend_->FreeBytes(), *before - kBytes / 2);
}

// The device itself fails, in a process of its own: it is of no use afterwards.
TEST_F(CudaDeviceTest, AKernelThatFailsIsTheStepsError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        TinyDecoder decoder(*backend_);
        if (!decoder.Step({1}).ok()) std::exit(10);
        const auto failed = decoder.Step({0x7fffff00});  // far outside the table
        if (!absl::IsInternal(failed.status())) std::exit(11);
        if (!absl::IsInternal(decoder.Step({1}).status())) std::exit(12);
        std::_Exit(0);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace elserve::cuda
