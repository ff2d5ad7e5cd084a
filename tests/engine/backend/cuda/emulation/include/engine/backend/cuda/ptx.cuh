// Stands in for engine/backend/cuda/ptx.cuh: what that file says in PTX, as PTX ISA defines it, thread by thread. The
// functions' meaning is written there.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_PTX_CUH_
#define ELSERVE_ENGINE_BACKEND_CUDA_PTX_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "tests/engine/backend/cuda/emulation/block.h"

namespace elserve::cuda {

inline unsigned char* DynamicShared() { return cuda_emulation::DynamicShared(); }

template <typename T>
T& StaticShared() {
  return *static_cast<T*>(cuda_emulation::StaticShared(typeid(T), sizeof(T)));
}

inline void CopyAsync16(void* shared, const void* global, bool valid = true) {
  cuda_emulation::CopyAsync(shared, valid ? global : nullptr);
}
inline void CommitCopies() { cuda_emulation::CommitCopies(); }
template <int kPending>
void WaitCopies() {
  cuda_emulation::WaitCopies(kPending);
}

struct MatrixLoad {
  const void* row;
  uint32_t* registers;
};
// Of matrix i thread l holds row l / 4, elements 2 (l % 4) and the next; transposed: column l / 4, those two rows.
template <bool kTransposed>
void LoadMatrices(void* const* lanes) {
  const auto* loads = reinterpret_cast<const MatrixLoad* const*>(lanes);
  for (int i = 0; i < 4; ++i) {
    uint16_t matrix[8][8];
    for (int row = 0; row < 8; ++row) std::memcpy(matrix[row], loads[8 * i + row]->row, sizeof(matrix[row]));
    for (int lane = 0; lane < 32; ++lane) {
      const int major = lane / 4, minor = lane % 4 * 2;
      const uint32_t low = kTransposed ? matrix[minor][major] : matrix[major][minor];
      const uint32_t high = kTransposed ? matrix[minor + 1][major] : matrix[major][minor + 1];
      loads[lane]->registers[i] = low | high << 16;
    }
  }
}
inline void LoadMatrix4(uint32_t (&r)[4], const void* row) {
  cuda_emulation::CheckShared(row);
  MatrixLoad own = {row, r};
  cuda_emulation::MeetWarp(LoadMatrices<false>, &own);
}
inline void LoadMatrix4Transposed(uint32_t (&r)[4], const void* row) {
  cuda_emulation::CheckShared(row);
  MatrixLoad own = {row, r};
  cuda_emulation::MeetWarp(LoadMatrices<true>, &own);
}

struct MatrixProduct {
  float* c;
  const uint32_t* a;
  uint32_t b[2];
};
// mma.m16n8k16: with g = lane / 4, t = lane % 4, register i of A holds row g + 8 (i % 2), columns 2 t + 8 (i / 2) and
// the next; of B rows 2 t + 8 i and the next, column g; of C row g + 8 (i / 2), column 2 t + i % 2.
inline void MultiplyWarp(void* const* lanes) {
  const auto* products = reinterpret_cast<const MatrixProduct* const*>(lanes);
  const auto low = [](uint32_t pair) { return std::bit_cast<float>(pair << 16); };
  const auto high = [](uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); };
  using Four = float __attribute__((vector_size(16), may_alias));
  alignas(16) float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const MatrixProduct& own = *products[lane];
    for (int i = 0; i < 4; ++i) {
      float* const at = &a[g + 8 * (i % 2)][2 * t + 8 * (i / 2)];
      at[0] = low(own.a[i]), at[1] = high(own.a[i]);
      c[g + 8 * (i / 2)][2 * t + i % 2] = own.c[i];
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = low(own.b[i]), b[2 * t + 8 * i + 1][g] = high(own.b[i]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    auto* const sums = reinterpret_cast<Four*>(c[row]);
    Four low_sums = sums[0], high_sums = sums[1];
    for (int k = 0; k < 16; ++k) {
      const auto* const right = reinterpret_cast<const Four*>(b[k]);
      low_sums += a[row][k] * right[0], high_sums += a[row][k] * right[1];
    }
    sums[0] = low_sums, sums[1] = high_sums;
  }
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) products[lane]->c[i] = c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}
inline void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  MatrixProduct own = {c, a, {b0, b1}};
  cuda_emulation::MeetWarp(MultiplyWarp, &own);
}

// ex2.approx.ftz: subnormal numbers are zeros, as arguments and as results.
inline float Exp2(float x) {
  const float y = std::exp2(x);
  return y < std::numeric_limits<float>::min() ? 0.0f : y;
}

inline int Opaque(int value) { return value; }

inline uint32_t PackBFloat16(float low, float high) {
  return __float2bfloat16_rn(low).bits | uint32_t{__float2bfloat16_rn(high).bits} << 16;
}

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_PTX_CUH_
