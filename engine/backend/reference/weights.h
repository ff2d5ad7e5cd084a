// The reference backend's weights: the host tensors' values as float32, in their own order.
#ifndef ELSERVE_ENGINE_BACKEND_REFERENCE_WEIGHTS_H_
#define ELSERVE_ENGINE_BACKEND_REFERENCE_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "engine/backend/backend.h"

namespace elserve::reference {

// Every value of `tensor`, exactly: float32 holds all of bfloat16 and float16.
std::vector<float> ToFloats(const HostTensor& tensor);

// The nearest numbers to row[n] that are its scale times integers: what a product with int8 weights makes of it. Its
// outliers stay as they are.
void RoundToInt8(float* row, int64_t n);
// Likewise, without outliers: what MemoryShape::int8 makes of a state, and of a query.
void RoundStateToInt8(float* row, int64_t n);

struct LinearWeight final : PackedWeight {
  int64_t out = 0;
  int64_t in = 0;
  std::vector<float> values;  // [out, in]
  std::vector<float> bias;    // [out]; zeros where there is none
  bool int8 = false;          // values are integers times a scale, and so are what they are multiplied with
  int64_t bytes() const override { return static_cast<int64_t>((values.size() + bias.size()) * sizeof(float)); }
};

struct GatedWeight final : PackedWeight {
  LinearWeight gate, up;
  int64_t bytes() const override { return gate.bytes() + up.bytes(); }
};

struct PerHeadWeight final : PackedWeight {
  int64_t heads = 0;
  int64_t in = 0;
  int64_t out = 0;
  std::vector<float> values;  // [heads, in, out]
  std::vector<float> bias;    // [heads * out], or empty
  bool int8 = false;          // as LinearWeight's
  int64_t bytes() const override { return static_cast<int64_t>((values.size() + bias.size()) * sizeof(float)); }
};

struct EmbeddingWeight final : PackedWeight {
  int64_t rows = 0;
  int64_t d = 0;
  std::vector<float> values;  // [rows, d]
  int64_t bytes() const override { return static_cast<int64_t>(values.size() * sizeof(float)); }
};

struct NormWeight final : PackedWeight {
  NormKind kind = NormKind::kLayerNorm;
  float epsilon = 0;
  std::vector<float> gamma;  // [d]
  std::vector<float> beta;   // [d]; zeros where there is none
  int64_t bytes() const override { return static_cast<int64_t>((gamma.size() + beta.size()) * sizeof(float)); }
};

struct PositionBiasWeight final : PackedWeight {
  int64_t heads = 0;
  int64_t distances = 0;
  std::vector<float> values;  // [heads, distances]
  int64_t bytes() const override { return static_cast<int64_t>(values.size() * sizeof(float)); }
};

PackedWeightPtr MakeLinear(const HostTensor& weight, const HostTensor* bias, WeightType type);
PackedWeightPtr MakeGated(const Backend::GatedWeights& weights);
PackedWeightPtr MakePerHead(const HostTensor& weight, const HostTensor* bias, WeightType type);
PackedWeightPtr MakeEmbedding(const HostTensor& table);
PackedWeightPtr MakeNorm(NormKind kind, const HostTensor& gamma, const HostTensor* beta, float epsilon);
PackedWeightPtr MakePositionBias(const HostTensor& table);

}  // namespace elserve::reference

#endif  // ELSERVE_ENGINE_BACKEND_REFERENCE_WEIGHTS_H_
