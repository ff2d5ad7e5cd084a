#include "engine/backend/backend.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
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

float ReadNumber(DataType type, const std::byte* from) {
  if (type == DataType::kFloat32) {
    float value;
    std::memcpy(&value, from, sizeof(value));
    return value;
  }
  uint16_t half;
  std::memcpy(&half, from, sizeof(half));
  return type == DataType::kFloat16 ? FromHalf(half) : FromBits(static_cast<uint32_t>(half) << 16);
}

}  // namespace

void Backend::FavorAttention(const FavorAttentionArgs&) {
  std::fprintf(stderr, "the %s backend has no approximations\n", name().c_str());
  std::abort();
}

void Backend::KeepLargest(const KeepLargestArgs&) {
  std::fprintf(stderr, "the %s backend has no approximations\n", name().c_str());
  std::abort();
}

void ReadFloats(const HostTensor& tensor, int64_t begin, int64_t n, float* out) {
  const int64_t size = SizeOf(tensor.type);
  if (tensor.transposed_from > 0) {
    // Rows that follow each other read neighbouring numbers, of cache lines that are still there.
    const int64_t cols = tensor.shape.back(), step = tensor.transposed_from * size;
    for (int64_t i = begin; i < begin + n;) {
      const int64_t row = i / cols, end = std::min(begin + n, (row + 1) * cols);
      const std::byte* from = tensor.data + row * size + i % cols * step;
      for (; i < end; ++i, from += step) *out++ = ReadNumber(tensor.type, from);
    }
    return;
  }
  const std::byte* from = tensor.data + begin * size;
  if (tensor.type == DataType::kFloat32) {
    std::memcpy(out, from, n * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < n; ++i) out[i] = ReadNumber(tensor.type, from + i * size);
}

}  // namespace elserve
