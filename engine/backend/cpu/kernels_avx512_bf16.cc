// Compiled with AVX512 F, BW, DQ, VL and BF16: bfloat16 by the processor's own dot.
#include "engine/backend/cpu/table.inl.h"
#include "engine/backend/cpu/vec512.inl.h"

namespace elserve::cpu {
namespace {

struct DotBf16State : WideBf16State<Vec512> {
  static __m512 Dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

}  // namespace

const Kernels& Avx512Bf16Kernels() {
  static constexpr Kernels kTable = TableOf<DotBf16State>();
  return kTable;
}

}  // namespace elserve::cpu
