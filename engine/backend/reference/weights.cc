#include "engine/backend/reference/weights.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <utility>

#include "engine/backend/int8_weight.h"
#include "engine/backend/reference/require.h"

namespace elserve::reference {
namespace {

std::vector<float> FloatsOrZeros(const HostTensor* tensor, int64_t size) {
  if (tensor == nullptr) return std::vector<float>(size, 0.0f);
  Require(tensor->shape.size() == 1 && tensor->shape[0] == size, "a bias or beta has one value for each output");
  return ToFloats(*tensor);
}

// Rows of `in` numbers become integers times a scale of their own.
void RoundWeights(int64_t in, std::vector<float>* values) {
  std::vector<int8_t> integers(in);
  for (size_t begin = 0; begin < values->size(); begin += in) {
    const std::span<float> row(values->data() + begin, in);
    const float scale = QuantizeToInt8(row, integers);
    for (int64_t i = 0; i < in; ++i) row[i] = scale * integers[i];
  }
}

LinearWeight LinearOf(const HostTensor& weight, const HostTensor* bias, WeightType type) {
  Require(weight.shape.size() == 2, "PackLinear and PackGatedLinear take weights of [out, in]");
  LinearWeight linear;
  linear.out = weight.shape[0];
  linear.in = weight.shape[1];
  linear.values = ToFloats(weight);
  linear.bias = FloatsOrZeros(bias, linear.out);
  linear.int8 = type == WeightType::kInt8;
  if (linear.int8) RoundWeights(linear.in, &linear.values);
  return linear;
}

}  // namespace

std::vector<float> ToFloats(const HostTensor& tensor) {
  std::vector<float> values(tensor.size());
  ReadFloats(tensor, 0, tensor.size(), values.data());
  return values;
}

void RoundToInt8(float* row, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::abs(row[i]);
  const auto limit = static_cast<float>(kOutlierRatio * sum / static_cast<double>(n));
  std::vector<std::pair<int64_t, float>> outliers;
  for (int64_t i = 0; i < n && outliers.size() < kMostOutliers; ++i) {
    if (std::abs(row[i]) > limit) outliers.emplace_back(i, std::exchange(row[i], 0));
  }
  RoundStateToInt8(row, n);
  for (const auto& [i, x] : outliers) row[i] = x;
}

void RoundStateToInt8(float* row, int64_t n) {
  // Nothing, but for a NaN, which has no integer.
  float greatest = 0, nothing = 0;
  for (int64_t i = 0; i < n; ++i) greatest = std::max(greatest, std::abs(row[i])), nothing += row[i] * 0;
  const float scale = (greatest > kLeastInt8Scale ? greatest : kMostInt8) / kMostInt8 + nothing, by = 1 / scale;
  for (int64_t i = 0; i < n; ++i) row[i] = scale * std::nearbyint(row[i] * by);
}

PackedWeightPtr MakeLinear(const HostTensor& weight, const HostTensor* bias, WeightType type) {
  auto packed = std::make_unique<LinearWeight>();
  *packed = LinearOf(weight, bias, type);
  return packed;
}

PackedWeightPtr MakeGated(const Backend::GatedWeights& weights) {
  Require(weights.gate.shape == weights.up.shape, "gate and up have one shape");
  Require((weights.gate_bias == nullptr) == (weights.up_bias == nullptr), "gate and up both have a bias, or neither");
  auto packed = std::make_unique<GatedWeight>();
  packed->gate = LinearOf(weights.gate, weights.gate_bias, weights.type);
  packed->up = LinearOf(weights.up, weights.up_bias, weights.type);
  return packed;
}

PackedWeightPtr MakePerHead(const HostTensor& weight, const HostTensor* bias, WeightType type) {
  Require(weight.shape.size() == 3, "PackPerHead takes a weight of [heads, in, out]");
  auto packed = std::make_unique<PerHeadWeight>();
  packed->heads = weight.shape[0];
  packed->in = weight.shape[1];
  packed->out = weight.shape[2];
  packed->values = ToFloats(weight);
  packed->int8 = type == WeightType::kInt8;
  if (packed->int8) {
    // A column is an output.
    std::vector<float> column(packed->in);
    std::vector<int8_t> integers(packed->in);
    for (int64_t c = 0; c < packed->heads * packed->out; ++c) {
      const int64_t first = c / packed->out * packed->in * packed->out + c % packed->out;
      for (int64_t i = 0; i < packed->in; ++i) column[i] = packed->values[first + i * packed->out];
      const float scale = QuantizeToInt8(column, integers);
      for (int64_t i = 0; i < packed->in; ++i) packed->values[first + i * packed->out] = scale * integers[i];
    }
  }
  if (bias != nullptr) {
    Require(bias->size() == packed->heads * packed->out, "PackPerHead takes a bias of [heads * out]");
    packed->bias = ToFloats(*bias);
  }
  return packed;
}

PackedWeightPtr MakeEmbedding(const HostTensor& table) {
  Require(table.shape.size() == 2, "PackEmbedding takes a table of [rows, d]");
  auto packed = std::make_unique<EmbeddingWeight>();
  packed->rows = table.shape[0];
  packed->d = table.shape[1];
  packed->values = ToFloats(table);
  return packed;
}

PackedWeightPtr MakeNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon) {
  Require(gamma.shape.size() == 1, "PackNorm takes gamma as [d]");
  Require(kind == NormKind::kLayerNorm || beta == nullptr, "an RMSNorm has no beta");
  auto packed = std::make_unique<NormWeight>();
  packed->kind = kind;
  packed->epsilon = epsilon;
  packed->gamma = ToFloats(gamma);
  packed->beta = FloatsOrZeros(beta, gamma.shape[0]);
  return packed;
}

PackedWeightPtr MakePositionBias(const HostTensor& table) {
  Require(table.shape.size() == 2, "PackPositionBias takes a table of [heads, distances]");
  auto packed = std::make_unique<PositionBiasWeight>();
  packed->heads = table.shape[0];
  packed->distances = table.shape[1];
  packed->values = ToFloats(table);
  return packed;
}

}  // namespace elserve::reference
