// Compiled with AVX512 F, BW, DQ and VL.
#include "engine/backend/cpu/avx512/vec512.inl.h"
#include "engine/backend/cpu/generic/table.inl.h"

namespace elserve::cpu {

const Kernels& Avx512Kernels(DataType state_type) {
  static constexpr Kernels kFloat32 = TableOf<Float32State<Vec512>>(Isa::kAvx512);
  static constexpr Kernels kBFloat16 = TableOf<WideBf16State<Vec512>>(Isa::kAvx512);
  return state_type == DataType::kFloat32 ? kFloat32 : kBFloat16;
}

}  // namespace elserve::cpu
