#include "engine/backend/cuda/packed_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/backend/cuda/kernels.h"

namespace elserve::cuda {
namespace {

uint16_t ToBFloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Rows of `cols` values, each beginning at its stride; what is between them is zero.
DeviceBlock UploadedRows(Context& context, const HostTensor& tensor, int64_t rows, int64_t cols, DataType type) {
  const int64_t row_bytes = RowStride(cols, type) * SizeOf(type);
  std::vector<std::byte> bytes(rows * row_bytes);
  std::vector<float> row(cols);
  for (int64_t r = 0; r < rows; ++r) {
    ReadFloats(tensor, r * cols, cols, row.data());
    FromFloats(row.data(), cols, type, bytes.data() + r * row_bytes);
  }
  absl::StatusOr<DeviceBlock> block = context.Allocate(static_cast<int64_t>(bytes.size()));
  if (!block.ok()) {
    context.Fail(block.status());
    return {};
  }
  context.Upload(bytes.data(), block->bytes(), block->data());
  return *std::move(block);
}

DeviceBlock UploadedVector(Context& context, const HostTensor& tensor, DataType type) {
  return UploadedRows(context, tensor, 1, tensor.size(), type);
}

}  // namespace

void FromFloats(const float* from, int64_t n, DataType type, std::byte* to) {
  if (type == DataType::kFloat32) {
    std::memcpy(to, from, n * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t value = ToBFloat16(from[i]);
    std::memcpy(to + 2 * i, &value, sizeof(value));
  }
}

void ToFloats(const std::byte* from, int64_t n, DataType type, float* to) {
  ReadFloats({.type = type, .shape = {n}, .data = from}, 0, n, to);
}

std::unique_ptr<PackedMatrix> PackMatrix(Context& context, DataType type, const HostTensor& weight,
                                         const HostTensor* bias) {
  auto packed = std::make_unique<PackedMatrix>();
  packed->out = weight.shape[0];
  packed->in = weight.shape[1];
  packed->values = UploadedRows(context, weight, packed->out, packed->in, type);
  if (bias != nullptr) {
    packed->bias = UploadedVector(context, *bias, DataType::kFloat32);
    if (type != DataType::kFloat32) packed->state_bias = UploadedVector(context, *bias, type);
  }
  return packed;
}

std::unique_ptr<PackedMatrix> PackGatedMatrix(Context& context, DataType type, const Backend::GatedWeights& weights) {
  const int64_t gates = weights.gate.shape[0], in = weights.gate.shape[1];
  const int64_t factors_begin = RowStride(gates, DataType::kFloat32), out = factors_begin + gates;
  std::vector<float> values(out * in), bias(out);
  const auto side_by_side = [=](const HostTensor& gate, const HostTensor& up, int64_t cols, std::vector<float>& to) {
    ReadFloats(gate, 0, gates * cols, to.data());
    ReadFloats(up, 0, gates * cols, to.data() + factors_begin * cols);
  };
  const auto view = [](const std::vector<float>& floats, std::vector<int64_t> shape) {
    return HostTensor{.type = DataType::kFloat32,
                      .shape = std::move(shape),
                      .data = reinterpret_cast<const std::byte*>(floats.data())};
  };
  side_by_side(weights.gate, weights.up, in, values);
  std::unique_ptr<PackedMatrix> packed;
  if (weights.gate_bias != nullptr) {
    side_by_side(*weights.gate_bias, *weights.up_bias, 1, bias);
    const HostTensor biases = view(bias, {out});
    packed = PackMatrix(context, type, view(values, {out, in}), &biases);
  } else {
    packed = PackMatrix(context, type, view(values, {out, in}), nullptr);
  }
  packed->gates = gates;
  return packed;
}

std::unique_ptr<PackedMatrix> PackHeads(Context& context, DataType type, const HostTensor& weight) {
  auto packed = std::make_unique<PackedMatrix>();
  packed->heads = weight.shape[0];
  packed->in = weight.shape[1];
  packed->out = weight.shape[2];
  const int64_t in = packed->in, out = packed->out;
  std::vector<float> head(in * out), turned(packed->heads * in * out);
  for (int64_t h = 0; h < packed->heads; ++h) {
    ReadFloats(weight, h * in * out, in * out, head.data());
    float* to = turned.data() + h * in * out;
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t o = 0; o < out; ++o) to[o * in + i] = head[i * out + o];
    }
  }
  const HostTensor rows{.type = DataType::kFloat32,
                        .shape = {packed->heads * out, in},
                        .data = reinterpret_cast<const std::byte*>(turned.data())};
  packed->values = UploadedRows(context, rows, packed->heads * out, in, type);
  return packed;
}

std::unique_ptr<PackedTable> PackTable(Context& context, DataType type, const HostTensor& table) {
  auto packed = std::make_unique<PackedTable>();
  packed->rows = table.shape[0];
  packed->d = table.shape[1];
  packed->values = UploadedRows(context, table, packed->rows, packed->d, type);
  return packed;
}

std::unique_ptr<PackedBiasTable> PackBiasTable(Context& context, const HostTensor& table) {
  auto packed = std::make_unique<PackedBiasTable>();
  packed->distances = table.shape[1];
  packed->values = UploadedVector(context, table, DataType::kFloat32);
  return packed;
}

std::unique_ptr<PackedNormWeight> PackNormWeight(Context& context, NormKind kind, const HostTensor& gamma,
                                                 const HostTensor* beta, float epsilon) {
  auto packed = std::make_unique<PackedNormWeight>();
  packed->kind = kind;
  packed->epsilon = epsilon;
  packed->d = gamma.size();
  packed->gamma = UploadedVector(context, gamma, DataType::kFloat32);
  if (beta != nullptr) packed->beta = UploadedVector(context, *beta, DataType::kFloat32);
  return packed;
}

}  // namespace elserve::cuda
