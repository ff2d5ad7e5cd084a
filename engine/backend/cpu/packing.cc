#include "engine/backend/cpu/packing.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "engine/backend/int8_weight.h"

namespace elserve::cpu {
namespace {

// Takes room for `panels` panels of columns of `in` numbers; false: there is none.
bool TakePanels(const PackTools& tools, int64_t panels, PackedMatrix* packed) {
  const int pack = tools.int8 ? 4 : tools.kernels.pack;
  packed->type = tools.int8 ? WeightType::kInt8 : WeightType::kState;
  packed->units = RoundUp(packed->in, pack) / pack;
  packed->panel_units = PanelUnits(tools, packed->units);
  packed->values = tools.buffers.Take(panels * packed->panel_units * 4, "weights");
  if (!tools.buffers.status().ok()) return false;
  if (tools.int8) {
    packed->scales.assign(panels * tools.kernels.panel, 0.0f);
    packed->offsets.assign(panels * tools.kernels.panel, 0);
  }
  return true;
}

// Columns [panel columns, in] -> panel i.
void StorePanel(const PackTools& tools, const std::vector<float>& columns, int64_t i, PackedMatrix* packed) {
  const Kernels& k = tools.kernels;
  std::vector<uint32_t> units(k.panel * packed->units);
  auto* const bytes = reinterpret_cast<std::byte*>(units.data());
  uint32_t* const panel = packed->values.as<uint32_t>() + i * packed->panel_units;
  for (int64_t c = 0; c < k.panel; ++c) {
    const std::span<const float> column(columns.data() + c * packed->in, packed->in);
    std::byte* const to = bytes + c * packed->units * 4;
    if (!tools.int8) {
      k.to_state(column.data(), packed->in, to);
      continue;
    }
    const std::span<int8_t> integers(reinterpret_cast<int8_t*>(to), packed->in);
    packed->scales[i * k.panel + c] = QuantizeToInt8(column, integers);
    packed->offsets[i * k.panel + c] =
        tools.int8->offset * std::accumulate(integers.begin(), integers.end(), int32_t{0});
  }
  (tools.int8 ? tools.int8->pack_panel : k.pack_panel)(units.data(), packed->units, panel);
}

// Rows [first, first + panel) of `weight`, [out, in]; zeros behind the last.
std::vector<float> RowsOf(const Kernels& k, const HostTensor& weight, int64_t first) {
  const int64_t in = weight.shape[1], columns = std::min<int64_t>(k.panel, weight.shape[0] - first);
  std::vector<float> floats(k.panel * in, 0.0f);
  ReadFloats(weight, first * in, columns * in, floats.data());
  return floats;
}

// Columns [first, first + panel) of a head of `weight`, [heads, in, out]; zeros behind the last.
std::vector<float> ColumnsOf(const Kernels& k, const HostTensor& weight, int64_t head, int64_t first) {
  const int64_t in = weight.shape[1], out = weight.shape[2], columns = std::min<int64_t>(k.panel, out - first);
  std::vector<float> floats(k.panel * in, 0.0f), row(columns);
  for (int64_t j = 0; j < in; ++j) {
    ReadFloats(weight, (head * in + j) * out + first, columns, row.data());
    for (int64_t c = 0; c < columns; ++c) floats[c * in + j] = row[c];
  }
  return floats;
}

}  // namespace

// Panels are packed in the shares in which products read them: memory is near the thread that touches it first.
PackedWeightPtr PackMatrix(const PackTools& tools, const HostTensor& weight, const HostTensor* bias) {
  const Kernels& k = tools.kernels;
  auto packed = std::make_unique<PackedMatrix>();
  packed->in = weight.shape[1];
  packed->out = weight.shape[0];
  packed->panels = RoundUp(packed->out, k.panel) / k.panel;
  if (!TakePanels(tools, packed->panels, packed.get())) return packed;
  packed->bias.assign(packed->panels * k.panel, 0.0f);
  if (bias) ReadFloats(*bias, 0, packed->out, packed->bias.data());
  tools.pool.RunInShares(packed->panels,
                         [&](int64_t i, int) { StorePanel(tools, RowsOf(k, weight, i * k.panel), i, packed.get()); });
  return packed;
}

PackedWeightPtr PackHeads(const PackTools& tools, const HostTensor& weight, const HostTensor* bias) {
  const Kernels& k = tools.kernels;
  auto packed = std::make_unique<PackedMatrix>();
  packed->heads = weight.shape[0];
  packed->in = weight.shape[1];
  packed->out = weight.shape[2];
  packed->panels = RoundUp(packed->out, k.panel) / k.panel;
  if (!TakePanels(tools, packed->heads * packed->panels, packed.get())) return packed;
  packed->bias.assign(packed->panels * k.panel, 0.0f);
  if (bias) {
    packed->head_bias.resize(bias->size());
    ReadFloats(*bias, 0, bias->size(), packed->head_bias.data());
  }
  tools.pool.RunInShares(packed->heads * packed->panels, [&](int64_t i, int) {
    StorePanel(tools, ColumnsOf(k, weight, i / packed->panels, i % packed->panels * k.panel), i, packed.get());
  });
  return packed;
}

PackedWeightPtr PackGated(const PackTools& tools, const Backend::GatedWeights& weights) {
  const Kernels& k = tools.kernels;
  auto packed = std::make_unique<PackedMatrix>();
  packed->in = weights.gate.shape[1];
  packed->out = weights.gate.shape[0];
  packed->panels = RoundUp(packed->out, k.panel) / k.panel;
  packed->gated = true;
  if (!TakePanels(tools, 2 * packed->panels, packed.get())) return packed;
  packed->bias.assign(2 * packed->panels * k.panel, 0.0f);
  tools.pool.RunInShares(2 * packed->panels, [&](int64_t i, int) {
    const bool up = i % 2 != 0;
    const int64_t first = i / 2 * k.panel;
    StorePanel(tools, RowsOf(k, up ? weights.up : weights.gate, first), i, packed.get());
    const HostTensor* bias = up ? weights.up_bias : weights.gate_bias;
    const int64_t columns = std::min<int64_t>(k.panel, packed->out - first);
    if (bias) ReadFloats(*bias, first, columns, packed->bias.data() + i * k.panel);
  });
  return packed;
}

PackedWeightPtr PackTable(const PackTools& tools, const HostTensor& table) {
  const Kernels& k = tools.kernels;
  auto packed = std::make_unique<PackedTable>();
  packed->rows = table.shape[0];
  packed->d = table.shape[1];
  packed->stride = StateStride(k, packed->d);
  packed->values = tools.buffers.Take(packed->rows * packed->stride, "weights");
  if (!tools.buffers.status().ok()) return packed;
  PackedTable* p = packed.get();
  tools.pool.Run(RoundUp(p->rows, 256) / 256, [&](int64_t i, int) {
    std::vector<float> row(p->d);
    for (int64_t r = i * 256; r < std::min(p->rows, (i + 1) * 256); ++r) {
      ReadFloats(table, r * p->d, p->d, row.data());
      k.to_state(row.data(), p->d, p->values.data() + r * p->stride);
    }
  });
  return packed;
}

}  // namespace elserve::cpu
