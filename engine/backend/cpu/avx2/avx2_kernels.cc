// Compiled with AVX2 and FMA.
#include "engine/backend/cpu/avx2/vec256.inl.h"
#include "engine/backend/cpu/generic/table.inl.h"

namespace elserve::cpu {

const Kernels& Avx2Kernels(DataType state_type) {
  static constexpr Kernels kFloat32 = TableOf<Float32State<Vec256>>(Isa::kAvx2);
  static constexpr Kernels kBFloat16 = TableOf<WideBf16State<Vec256>>(Isa::kAvx2);
  return state_type == DataType::kFloat32 ? kFloat32 : kBFloat16;
}

}  // namespace elserve::cpu
