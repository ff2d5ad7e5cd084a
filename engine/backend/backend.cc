#include "engine/backend/backend.h"

#include <cstring>

namespace elserve {
namespace {

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float FromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
  if (exponent == 0x1f) return FromBits(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return FromBits(sign | (exponent + 112) << 23 | mantissa << 13);
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

}  // namespace

void ReadFloats(const HostTensor& tensor, int64_t begin, int64_t n, float* out) {
  const std::byte* from = tensor.data + begin * SizeOf(tensor.type);
  if (tensor.type == DataType::kFloat32) {
    std::memcpy(out, from, n * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    uint16_t half;
    std::memcpy(&half, from + 2 * i, sizeof(half));
    out[i] = tensor.type == DataType::kFloat16 ? FromHalf(half) : FromBits(static_cast<uint32_t>(half) << 16);
  }
}

}  // namespace elserve
