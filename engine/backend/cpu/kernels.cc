#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {

const Int8Kernels* Int8KernelsFor(Isa isa) {
  if (isa >= Isa::kAvx512 && !HasAvx512Vnni()) return nullptr;
  if (isa == Isa::kAmx && HasAmxInt8()) return &AmxInt8Kernels();
  if (isa >= Isa::kAvx512) return &Avx512VnniKernels();
  return HasAvxVnni() ? &Avx2VnniKernels() : nullptr;
}

const Kernels& KernelsFor(Isa isa, DataType state_type) {
  if (isa == Isa::kAvx2) return Avx2Kernels(state_type);
  if (state_type == DataType::kBFloat16 && isa == Isa::kAmx) return AmxKernels();
  if (state_type == DataType::kBFloat16 && isa == Isa::kAvx512Bf16) return Avx512Bf16Kernels();
  return Avx512Kernels(state_type);
}

}  // namespace elserve::cpu
