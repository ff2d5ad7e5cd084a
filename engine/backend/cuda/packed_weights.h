// Weights in device memory, in the layouts that products and kernels read.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_PACKED_WEIGHTS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_PACKED_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/context.h"
#include "engine/backend/cuda/product.h"

namespace elserve::cuda {

// Linear (heads is 1) and PerHeadLinear: each output's inputs are a row, as cublasLt's products like them best.
struct PackedMatrix final : PackedWeight {
  int64_t heads = 1;
  int64_t out = 0;
  int64_t in = 0;
  // Of a gated product, whose outputs are the gates, what fills their row up to whole fours, and the factors: how many
  // gates. 0: not gated.
  int64_t gates = 0;
  DeviceBlock values;      // [heads, out, RowStride(in)] of the precision's type
  DeviceBlock bias;        // [out] float32; none: the product has no bias
  DeviceBlock state_bias;  // likewise in the precision's type: what cublasLt adds to outputs of that type
  // The products that were made of it: one for each form in which it is used, mostly one.
  mutable std::vector<std::unique_ptr<Product>> products;
  int64_t bytes() const override { return values.bytes() + bias.bytes() + state_bias.bytes(); }
};

struct PackedTable final : PackedWeight {
  int64_t rows = 0;
  int64_t d = 0;
  DeviceBlock values;  // [rows, RowStride(d)] of the precision's type
  int64_t bytes() const override { return values.bytes(); }
};

struct PackedBiasTable final : PackedWeight {
  int64_t distances = 0;
  DeviceBlock values;  // [heads, distances] float32
  int64_t bytes() const override { return values.bytes(); }
};

struct PackedNormWeight final : PackedWeight {
  NormKind kind = NormKind::kLayerNorm;
  float epsilon = 0;
  int64_t d = 0;
  DeviceBlock gamma, beta;  // [d] float32; beta: none for RMSNorm
  int64_t bytes() const override { return gamma.bytes() + beta.bytes(); }
};

// Values are rounded to `type` to the nearest, ties to even. Where the device has no room, or fails, the context has
// the error (a weight is returned all the same, and AllocateMemory tells).
std::unique_ptr<PackedMatrix> PackMatrix(Context& context, DataType type, const HostTensor& weight,
                                         const HostTensor* bias);
// Gates and factors of one shape as one matrix.
std::unique_ptr<PackedMatrix> PackGatedMatrix(Context& context, DataType type, const Backend::GatedWeights& weights);
// weight: [heads, in, out]
std::unique_ptr<PackedMatrix> PackHeads(Context& context, DataType type, const HostTensor& weight);
std::unique_ptr<PackedTable> PackTable(Context& context, DataType type, const HostTensor& table);
std::unique_ptr<PackedBiasTable> PackBiasTable(Context& context, const HostTensor& table);
std::unique_ptr<PackedNormWeight> PackNormWeight(Context& context, NormKind kind, const HostTensor& gamma,
                                                 const HostTensor* beta, float epsilon);
// n floats as values of `type`, and back.
void FromFloats(const float* from, int64_t n, DataType type, std::byte* to);
void ToFloats(const std::byte* from, int64_t n, DataType type, float* to);

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_PACKED_WEIGHTS_H_
