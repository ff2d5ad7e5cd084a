// Which instruction set's kernels run: the processor's best, or what ELSERVE_ISA forces.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_CHOOSE_ISA_H_
#define ELSERVE_ENGINE_BACKEND_CPU_CHOOSE_ISA_H_

#include "absl/status/statusor.h"
#include "engine/backend/cpu/isa.h"

namespace elserve::cpu {

// As logs and GetModel have it: "AVX512-BF16".
const char* IsaName(Isa isa);

// forced: ELSERVE_ISA's value: avx2, avx512, avx512_bf16 or amx; null or empty: the processor's best.
// INVALID_ARGUMENT for another name, FAILED_PRECONDITION for more than the processor has, or for one without AVX2.
absl::StatusOr<Isa> ChooseIsa(const char* forced);

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_CHOOSE_ISA_H_
