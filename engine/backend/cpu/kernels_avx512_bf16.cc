// Compiled with AVX512 F, BW, DQ, VL and BF16.
#include "engine/backend/cpu/dot_bf16.inl.h"
#include "engine/backend/cpu/table.inl.h"

namespace elserve::cpu {

const Kernels& Avx512Bf16Kernels() {
  static constexpr Kernels kTable = TableOf<DotBf16State>(Isa::kAvx512Bf16);
  return kTable;
}

}  // namespace elserve::cpu
