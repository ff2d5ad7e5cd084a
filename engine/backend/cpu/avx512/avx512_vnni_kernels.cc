// Compiled with AVX512 F, BW, DQ, VL and VNNI.
#include "engine/backend/cpu/avx512/vnni512.inl.h"
#include "engine/backend/cpu/generic/int8_table.inl.h"

namespace elserve::cpu {

const Int8Kernels& Avx512VnniKernels() {
  static constexpr Int8Kernels kTable = Int8TableOf<WideBf16State<VnniVec512>>("AVX512-VNNI");
  return kTable;
}

}  // namespace elserve::cpu
