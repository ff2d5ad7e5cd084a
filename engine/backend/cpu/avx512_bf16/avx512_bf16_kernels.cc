// Compiled with AVX512 F, BW, DQ, VL and BF16.
#include "engine/backend/cpu/avx512_bf16/dot_bf16.inl.h"
#include "engine/backend/cpu/generic/table.inl.h"

namespace elserve::cpu {

const Kernels& Avx512Bf16Kernels() {
  static constexpr Kernels kTable = TableOf<DotBf16State>(Isa::kAvx512Bf16);
  return kTable;
}

}  // namespace elserve::cpu
