// Weights in the cpu backend's layouts.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_PACKING_H_
#define ELSERVE_ENGINE_BACKEND_CPU_PACKING_H_

#include <cstdint>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/aligned_buffer.h"
#include "engine/backend/cpu/buffer_source.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/thread_pool.h"

namespace elserve::cpu {

// Linear and per-head weights: `heads` matrices [in, out], each as panels [out / panel][PanelUnits(kernels, units)] of
// units of `pack` inputs, in the kernels' layout; columns beyond `out` are zeros.
struct PackedMatrix : PackedWeight {
  int64_t heads = 1, in = 0, out = 0;
  int64_t units = 0;   // of one column: ceil(in / pack)
  int64_t panels = 0;  // of one head
  bool gated = false;  // a panel is two: gate columns, then up columns
  AlignedBuffer values;
  std::vector<float> bias;       // as the panels: [panels * panel columns], zeros where there is none
  std::vector<float> head_bias;  // of a per-head weight [heads * out], or empty: for PerHeadLinearArgs::totals
  int64_t bytes() const override {
    return values.bytes() + static_cast<int64_t>((bias.size() + head_bias.size()) * sizeof(float));
  }
};

// Embeddings: rows of states, padded to `stride` bytes.
struct PackedTable : PackedWeight {
  int64_t rows = 0, d = 0, stride = 0;
  AlignedBuffer values;
  int64_t bytes() const override { return values.bytes(); }
};

struct PackedNormWeight : PackedWeight {
  NormKind kind = NormKind::kLayerNorm;
  float epsilon = 0;
  std::vector<float> gamma, beta;  // beta may be empty
  int64_t bytes() const override { return static_cast<int64_t>((gamma.size() + beta.size()) * sizeof(float)); }
};

// Additions to attention's scores by distance.
struct PackedPositionBias : PackedWeight {
  int64_t distances = 0;
  std::vector<float> values;  // [heads, distances]
  int64_t bytes() const override { return static_cast<int64_t>(values.size() * sizeof(float)); }
};

// weight: [out, in], or [heads, in, out] if `per_head`; bias: [out], or [heads * out], or null. Without values where
// `buffers` has no room.
PackedWeightPtr PackMatrix(const Kernels& kernels, ThreadPool& pool, BufferSource& buffers, const HostTensor& weight,
                           const HostTensor* bias, bool per_head);
PackedWeightPtr PackGated(const Kernels& kernels, ThreadPool& pool, BufferSource& buffers,
                          const Backend::GatedWeights& weights);
PackedWeightPtr PackTable(const Kernels& kernels, ThreadPool& pool, BufferSource& buffers, const HostTensor& table);

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_PACKING_H_
