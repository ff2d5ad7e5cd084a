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
  int64_t units = 0;        // of one column: of as many numbers as the type has in one
  int64_t panel_units = 0;  // from a panel to the next
  int64_t panels = 0;       // of one head
  bool gated = false;       // a panel is two: gate columns, then up columns
  AlignedBuffer values;
  std::vector<float> bias;  // as the panels: [panels * panel columns], zeros where there is none
  // int8: of each column of all heads' panels; a column is about its scale times its integers, which with what the
  // kernels add to a row's integers sum to `offsets` too much.
  std::vector<float> scales;
  std::vector<int32_t> offsets;
  WeightType type = WeightType::kState;
  std::vector<float> head_bias;  // of a per-head weight [heads * out], or empty: for PerHeadLinearArgs::totals
  int64_t bytes() const override {
    return values.bytes() +
           static_cast<int64_t>((bias.size() + head_bias.size() + scales.size() + offsets.size()) * sizeof(float));
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

// What packs: with `int8` panels of integers, else of states.
struct PackTools {
  const Kernels& kernels;
  const Int8Kernels* int8;  // null: states. Its panels have as many columns
  ThreadPool& pool;
  BufferSource& buffers;
};
// Units of a panel whose columns have `units` each.
inline int64_t PanelUnits(const PackTools& tools, int64_t units) {
  return RoundUp(units, tools.int8 ? tools.int8->unit_step : tools.kernels.unit_step) * tools.kernels.panel;
}

// What comes back has no values where `buffers` has no room.
PackedWeightPtr PackMatrix(const PackTools& tools, const HostTensor& weight,
                           const HostTensor* bias);  // [out, in], [out]
PackedWeightPtr PackHeads(const PackTools& tools, const HostTensor& weight,
                          const HostTensor* bias);  // [heads, in, out], [heads * out]
PackedWeightPtr PackGated(const PackTools& tools, const Backend::GatedWeights& weights);
PackedWeightPtr PackTable(const PackTools& tools, const HostTensor& table);

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_PACKING_H_
