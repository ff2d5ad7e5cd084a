#include "engine/backend/reference/weights.h"

#include <memory>

#include "engine/backend/reference/require.h"

namespace elserve::reference {
namespace {

std::vector<float> FloatsOrZeros(const HostTensor* tensor, int64_t size) {
  if (tensor == nullptr) return std::vector<float>(size, 0.0f);
  Require(tensor->shape.size() == 1 && tensor->shape[0] == size, "a bias or beta has one value for each output");
  return ToFloats(*tensor);
}

LinearWeight LinearOf(const HostTensor& weight, const HostTensor* bias) {
  Require(weight.shape.size() == 2, "PackLinear and PackGatedLinear take weights of [out, in]");
  LinearWeight linear;
  linear.out = weight.shape[0];
  linear.in = weight.shape[1];
  linear.values = ToFloats(weight);
  linear.bias = FloatsOrZeros(bias, linear.out);
  return linear;
}

}  // namespace

std::vector<float> ToFloats(const HostTensor& tensor) {
  std::vector<float> values(tensor.size());
  ReadFloats(tensor, 0, tensor.size(), values.data());
  return values;
}

PackedWeightPtr MakeLinear(const HostTensor& weight, const HostTensor* bias) {
  auto packed = std::make_unique<LinearWeight>();
  *packed = LinearOf(weight, bias);
  return packed;
}

PackedWeightPtr MakeGated(const Backend::GatedWeights& weights) {
  Require(weights.gate.shape == weights.up.shape, "gate and up have one shape");
  Require((weights.gate_bias == nullptr) == (weights.up_bias == nullptr), "gate and up both have a bias, or neither");
  auto packed = std::make_unique<GatedWeight>();
  packed->gate = LinearOf(weights.gate, weights.gate_bias);
  packed->up = LinearOf(weights.up, weights.up_bias);
  return packed;
}

PackedWeightPtr MakePerHead(const HostTensor& weight, const HostTensor* bias) {
  Require(weight.shape.size() == 3, "PackPerHead takes a weight of [heads, in, out]");
  auto packed = std::make_unique<PerHeadWeight>();
  packed->heads = weight.shape[0];
  packed->in = weight.shape[1];
  packed->out = weight.shape[2];
  packed->values = ToFloats(weight);
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
