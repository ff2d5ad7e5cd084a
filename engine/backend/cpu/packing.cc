#include "engine/backend/cpu/packing.h"

#include <algorithm>
#include <cstring>

namespace elserve::cpu {
namespace {

float FromHalf(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  uint32_t exponent = (h >> 10) & 0x1fu, mantissa = h & 0x3ffu;
  uint32_t bits;
  if (exponent == 0x1f) {
    bits = sign | 0x7f800000u | mantissa << 13;
  } else if (exponent != 0) {
    bits = sign | (exponent + 112) << 23 | mantissa << 13;
  } else {
    // A subnormal: mantissa * 2^-24.
    float value = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    std::memcpy(&bits, &value, sizeof(bits));
    bits |= sign;
  }
  float out;
  std::memcpy(&out, &bits, sizeof(out));
  return out;
}

// Panel `panel` of one head from `rows`, [panel columns][units * pack] states: transposed in units.
void FillPanel(const uint32_t* rows, int64_t units, int columns, uint32_t* panel) {
  for (int column = 0; column < columns; ++column) {
    for (int64_t u = 0; u < units; ++u) panel[u * columns + column] = rows[column * units + u];
  }
}

}  // namespace

void ReadFloats(const HostTensor& tensor, int64_t begin, int64_t n, float* out) {
  const std::byte* from = tensor.data + begin * SizeOf(tensor.type);
  for (int64_t i = 0; i < n; ++i) {
    if (tensor.type == DataType::kFloat32) {
      std::memcpy(&out[i], from + 4 * i, 4);
      continue;
    }
    uint16_t half;
    std::memcpy(&half, from + 2 * i, 2);
    if (tensor.type == DataType::kFloat16) {
      out[i] = FromHalf(half);
    } else {
      const uint32_t bits = static_cast<uint32_t>(half) << 16;
      std::memcpy(&out[i], &bits, 4);
    }
  }
}

PackedWeightPtr PackMatrix(const Kernels& k, ThreadPool& pool, const HostTensor& weight, const HostTensor* bias,
                           bool per_head) {
  auto packed = std::make_unique<PackedMatrix>();
  packed->heads = per_head ? weight.shape[0] : 1;
  packed->in = weight.shape[1];
  packed->out = per_head ? weight.shape[2] : weight.shape[0];
  packed->units = RoundUp(packed->in, k.pack) / k.pack;
  packed->panels = RoundUp(packed->out, k.panel) / k.panel;
  const int64_t panel_units = packed->units * k.panel;
  packed->values = AlignedBuffer(packed->heads * packed->panels * panel_units * 4);
  packed->bias.assign(packed->panels * k.panel, 0.0f);
  if (bias) ReadFloats(*bias, 0, packed->out, packed->bias.data());
  PackedMatrix* p = packed.get();
  pool.Run(p->heads * p->panels, [&](int64_t i, int) {
    const int64_t head = i / p->panels, first = i % p->panels * k.panel;
    const int64_t padded = p->units * k.pack;
    std::vector<float> row(k.panel);
    std::vector<float> floats(k.panel * padded, 0.0f);
    const int64_t columns = std::min<int64_t>(k.panel, p->out - first);
    if (per_head) {
      for (int64_t j = 0; j < p->in; ++j) {
        ReadFloats(weight, (head * p->in + j) * p->out + first, columns, row.data());
        for (int64_t c = 0; c < columns; ++c) floats[c * padded + j] = row[c];
      }
    } else {
      for (int64_t c = 0; c < columns; ++c) ReadFloats(weight, (first + c) * p->in, p->in, floats.data() + c * padded);
    }
    std::vector<uint32_t> states(k.panel * p->units);
    k.to_state(floats.data(), k.panel * padded, reinterpret_cast<std::byte*>(states.data()));
    FillPanel(states.data(), p->units, k.panel, p->values.as<uint32_t>() + i * panel_units);
  });
  return packed;
}

PackedWeightPtr PackTable(const Kernels& k, ThreadPool& pool, const HostTensor& table) {
  auto packed = std::make_unique<PackedTable>();
  packed->rows = table.shape[0];
  packed->d = table.shape[1];
  packed->stride = StateStride(k, packed->d);
  packed->values = AlignedBuffer(packed->rows * packed->stride);
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
