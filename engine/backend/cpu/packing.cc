#include "engine/backend/cpu/packing.h"

#include <algorithm>

namespace elserve::cpu {
namespace {

// Rows [first, first + k.panel) of `weight`, [out, in], as a panel; zeros behind the last.
void PackRows(const Kernels& k, const HostTensor& weight, int64_t first, uint32_t* panel) {
  const int64_t out = weight.shape[0], in = weight.shape[1], units = RoundUp(in, k.pack) / k.pack;
  const int64_t padded = units * k.pack, columns = std::min<int64_t>(k.panel, out - first);
  std::vector<float> floats(k.panel * padded, 0.0f);
  for (int64_t c = 0; c < columns; ++c) ReadFloats(weight, (first + c) * in, in, floats.data() + c * padded);
  std::vector<uint32_t> states(k.panel * units);
  k.to_state(floats.data(), k.panel * padded, reinterpret_cast<std::byte*>(states.data()));
  k.pack_panel(states.data(), units, panel);
}

}  // namespace

PackedWeightPtr PackMatrix(const Kernels& k, ThreadPool& pool, BufferSource& buffers, const HostTensor& weight,
                           const HostTensor* bias, bool per_head) {
  auto packed = std::make_unique<PackedMatrix>();
  packed->heads = per_head ? weight.shape[0] : 1;
  packed->in = weight.shape[1];
  packed->out = per_head ? weight.shape[2] : weight.shape[0];
  packed->units = RoundUp(packed->in, k.pack) / k.pack;
  packed->panels = RoundUp(packed->out, k.panel) / k.panel;
  const int64_t panel_units = PanelUnits(k, packed->units);
  packed->values = buffers.Take(packed->heads * packed->panels * panel_units * 4, "weights");
  if (!buffers.status().ok()) return packed;
  packed->bias.assign(packed->panels * k.panel, 0.0f);
  if (bias && per_head) packed->head_bias.resize(bias->size());
  if (bias) ReadFloats(*bias, 0, bias->size(), per_head ? packed->head_bias.data() : packed->bias.data());
  PackedMatrix* p = packed.get();
  // In the shares in which products read them: memory is near the thread that touches it first.
  pool.RunInShares(p->heads * p->panels, [&](int64_t i, int) {
    const int64_t head = i / p->panels, first = i % p->panels * k.panel;
    uint32_t* panel = p->values.as<uint32_t>() + i * panel_units;
    if (!per_head) return PackRows(k, weight, first, panel);
    const int64_t padded = p->units * k.pack;
    std::vector<float> row(k.panel);
    std::vector<float> floats(k.panel * padded, 0.0f);
    const int64_t columns = std::min<int64_t>(k.panel, p->out - first);
    for (int64_t j = 0; j < p->in; ++j) {
      ReadFloats(weight, (head * p->in + j) * p->out + first, columns, row.data());
      for (int64_t c = 0; c < columns; ++c) floats[c * padded + j] = row[c];
    }
    std::vector<uint32_t> states(k.panel * p->units);
    k.to_state(floats.data(), k.panel * padded, reinterpret_cast<std::byte*>(states.data()));
    k.pack_panel(states.data(), p->units, panel);
  });
  return packed;
}

PackedWeightPtr PackGated(const Kernels& k, ThreadPool& pool, BufferSource& buffers,
                          const Backend::GatedWeights& weights) {
  auto packed = std::make_unique<PackedMatrix>();
  packed->in = weights.gate.shape[1];
  packed->out = weights.gate.shape[0];
  packed->units = RoundUp(packed->in, k.pack) / k.pack;
  packed->panels = RoundUp(packed->out, k.panel) / k.panel;
  packed->gated = true;
  const int64_t panel_units = PanelUnits(k, packed->units);
  packed->values = buffers.Take(2 * packed->panels * panel_units * 4, "weights");
  if (!buffers.status().ok()) return packed;
  packed->bias.assign(2 * packed->panels * k.panel, 0.0f);
  PackedMatrix* p = packed.get();
  pool.RunInShares(2 * p->panels, [&](int64_t i, int) {
    const bool up = i % 2 != 0;
    const int64_t first = i / 2 * k.panel;
    PackRows(k, up ? weights.up : weights.gate, first, p->values.as<uint32_t>() + i * panel_units);
    const HostTensor* bias = up ? weights.up_bias : weights.gate_bias;
    if (bias) ReadFloats(*bias, first, std::min<int64_t>(k.panel, p->out - first), p->bias.data() + i * k.panel);
  });
  return packed;
}

PackedWeightPtr PackTable(const Kernels& k, ThreadPool& pool, BufferSource& buffers, const HostTensor& table) {
  auto packed = std::make_unique<PackedTable>();
  packed->rows = table.shape[0];
  packed->d = table.shape[1];
  packed->stride = StateStride(k, packed->d);
  packed->values = buffers.Take(packed->rows * packed->stride, "weights");
  if (!buffers.status().ok()) return packed;
  PackedTable* p = packed.get();
  pool.Run(RoundUp(p->rows, 256) / 256, [&](int64_t i, int) {
    std::vector<float> row(p->d);
    for (int64_t r = i * 256; r < std::min(p->rows, (i + 1) * 256); ++r) {
      ReadFloats(table, r * p->d, p->d, row.data());
      k.to_state(row.data(), p->d, p->values.data() + r * p->stride);
    }
  });
  return packed;
}

}  // namespace elserve::cpu
