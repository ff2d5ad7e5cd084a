#include "engine/backend/reference/weights.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>

#include "engine/backend/reference/require.h"

namespace elserve::reference {
namespace {

// IEEE 754 binary16: 1 bit of sign, 5 of exponent (bias 15), 10 of fraction.
float FromFloat16(uint16_t bits) {
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  float magnitude;
  if (exponent == 0x1f) {
    magnitude = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(0x400 + fraction), exponent - 25);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// bfloat16 is the upper half of a float32.
float FromBFloat16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

std::vector<float> FloatsOrZeros(const HostTensor* tensor, int64_t size) {
  if (tensor == nullptr) return std::vector<float>(size, 0.0f);
  Require(tensor->shape.size() == 1 && tensor->shape[0] == size, "a bias or beta has one value for each output");
  return ToFloats(*tensor);
}

}  // namespace

std::vector<float> ToFloats(const HostTensor& tensor) {
  std::vector<float> values(tensor.size());
  if (tensor.type == DataType::kFloat32) {
    if (!values.empty()) std::memcpy(values.data(), tensor.data, values.size() * sizeof(float));
    return values;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits;
    std::memcpy(&bits, tensor.data + 2 * i, sizeof(bits));
    values[i] = tensor.type == DataType::kBFloat16 ? FromBFloat16(bits) : FromFloat16(bits);
  }
  return values;
}

PackedWeightPtr MakeLinear(const HostTensor& weight, const HostTensor* bias) {
  Require(weight.shape.size() == 2, "PackLinear takes a weight of [out, in]");
  auto packed = std::make_unique<LinearWeight>();
  packed->out = weight.shape[0];
  packed->in = weight.shape[1];
  packed->values = ToFloats(weight);
  packed->bias = FloatsOrZeros(bias, packed->out);
  return packed;
}

PackedWeightPtr MakePerHead(const HostTensor& weight) {
  Require(weight.shape.size() == 3, "PackPerHead takes a weight of [heads, in, out]");
  auto packed = std::make_unique<PerHeadWeight>();
  packed->heads = weight.shape[0];
  packed->in = weight.shape[1];
  packed->out = weight.shape[2];
  packed->values = ToFloats(weight);
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

}  // namespace elserve::reference
