// Compiled with AVX2, FMA and AVX-VNNI.
#include "engine/backend/cpu/avx2/vnni256.inl.h"
#include "engine/backend/cpu/generic/int8_table.inl.h"

namespace elserve::cpu {

const Int8Kernels& Avx2VnniKernels() {
  static constexpr Int8Kernels kTable = Int8TableOf<WideBf16State<VnniVec256>>("AVX-VNNI");
  return kTable;
}

}  // namespace elserve::cpu
