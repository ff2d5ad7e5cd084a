#include "tests/engine/backend/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace elserve {
namespace {

constexpr int kPlainDecoderLength = 64;
const std::vector<int32_t>& FirstPage() {
  static const auto* const pages = new std::vector<int32_t>{0};
  return *pages;
}

}  // namespace

std::vector<float> RandomValues(uint32_t seed, int64_t n, float deviation) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(n);
  for (float& value : values) value = normal(engine);
  return values;
}

float RoundedToBFloat16(float value) {
  if (std::isnan(value)) return value;
  const auto bits = std::bit_cast<uint32_t>(value);
  return std::bit_cast<float>((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}

HostTensor View(const std::vector<float>& values, std::vector<int64_t> shape) {
  return {
      .type = DataType::kFloat32, .shape = std::move(shape), .data = reinterpret_cast<const std::byte*>(values.data())};
}

StepLayout OwnedStep::Layout() {
  StepLayout layout;
  views_.clear();
  int32_t begin = 0;
  for (const Row& row : rows) {
    const auto history = static_cast<int>(row.ancestry.size());
    views_.push_back(
        {.begin = begin, .positions = row.positions, .first = history - row.positions, .ancestry = row.ancestry});
    begin += row.positions;
  }
  if (phase == Phase::kEncode) {
    layout.encode = {.tokens = tokens, .position_ids = position_ids, .documents = encode_documents};
  } else {
    (phase == Phase::kPrefill ? layout.prefill : layout.decode) = {.tokens = tokens,
                                                                   .position_ids = position_ids,
                                                                   .rows = views_,
                                                                   .documents = decode_documents,
                                                                   .select = select};
  }
  return layout;
}

OwnedStep PlainStep(Phase phase, std::vector<int32_t> tokens, std::vector<int32_t> position_ids) {
  OwnedStep step;
  step.phase = phase;
  const auto positions = static_cast<int32_t>(tokens.size());
  step.tokens = std::move(tokens);
  step.position_ids = std::move(position_ids);
  if (phase == Phase::kEncode) {
    step.encode_documents = {{.begin = 0, .length = positions, .pages = {}}};
    return step;
  }
  step.decode_documents = {{.begin = 0, .positions = positions, .length = 1, .pages = FirstPage()}};
  for (int32_t p = 0; p < positions; ++p) {
    step.rows.push_back({.ancestry = std::vector<int32_t>(step.position_ids[p] + 1, p)});
  }
  return step;
}

OwnedStep PlainStep(Phase phase, int positions) {
  return PlainStep(phase, std::vector<int32_t>(positions, 0), std::vector<int32_t>(positions, 0));
}

Session::Session(std::unique_ptr<Backend> backend, DataType precision)
    : backend_(std::move(backend)), precision_(precision) {}

std::vector<float> Session::Random(uint32_t seed, int64_t n, float deviation) const {
  std::vector<float> values = RandomValues(seed, n, deviation);
  if (precision_ == DataType::kBFloat16)
    std::transform(values.begin(), values.end(), values.begin(), RoundedToBFloat16);
  return values;
}

void Session::AllocateMemory(const MemoryShape& shape, int64_t pages, int64_t blocks, const StepLimits& limits) {
  const absl::Status status = backend_->AllocateMemory(shape, pages, blocks, limits);
  ASSERT_TRUE(status.ok()) << status;
}

void Session::AllocatePlainMemory(int positions) {
  AllocateMemory({.layers = 1, .d = 8, .heads = 1, .head_dim = 8}, /*pages=*/1,
                 (positions + kBlockCells - 1) / kBlockCells,
                 {.encode_positions = positions,
                  .prefill_positions = positions,
                  .prefill_history = positions * kPlainDecoderLength,
                  .decode_positions = positions,
                  .select_rows = positions,
                  .whole_rows = positions,
                  .decoder_length = kPlainDecoderLength,
                  .source_length = std::max(positions, kPageTokens)});
}

Tensor Session::Allocate(int64_t rows, int64_t cols, Storage storage) {
  const absl::StatusOr<Tensor> tensor = backend_->AllocateTensor(rows, cols, storage);
  if (!tensor.ok()) ADD_FAILURE() << tensor.status();
  return tensor.value_or(Tensor{});
}

PackedWeightPtr Session::RandomLinear(uint32_t seed, int64_t out, int64_t in, bool with_bias, WeightType type) {
  // Outputs of unit size for inputs of unit size.
  const std::vector<float> weight = Random(seed, out * in, 1 / std::sqrt(static_cast<float>(in)));
  const std::vector<float> bias = Random(seed + 1, out, 0.5f);
  const HostTensor bias_view = View(bias, {out});
  return backend_->PackLinear(View(weight, {out, in}), with_bias ? &bias_view : nullptr, type);
}

PackedWeightPtr Session::RandomGated(uint32_t seed, int64_t out, int64_t in, bool with_bias, WeightType type) {
  const float deviation = 1 / std::sqrt(static_cast<float>(in));
  const std::vector<float> gate = Random(seed, out * in, deviation), up = Random(seed + 1, out * in, deviation);
  const std::vector<float> gate_bias = Random(seed + 2, out, 0.5f), up_bias = Random(seed + 3, out, 0.5f);
  const HostTensor gate_view = View(gate_bias, {out}), up_view = View(up_bias, {out});
  return backend_->PackGatedLinear({.gate = View(gate, {out, in}),
                                    .up = View(up, {out, in}),
                                    .gate_bias = with_bias ? &gate_view : nullptr,
                                    .up_bias = with_bias ? &up_view : nullptr,
                                    .type = type});
}

std::vector<float> Rows(std::span<const float> matrix, int64_t cols, std::span<const int> rows) {
  std::vector<float> chosen;
  chosen.reserve(rows.size() * cols);
  for (int row : rows) {
    const auto values = matrix.subspan(row * cols, cols);
    chosen.insert(chosen.end(), values.begin(), values.end());
  }
  return chosen;
}

}  // namespace elserve
