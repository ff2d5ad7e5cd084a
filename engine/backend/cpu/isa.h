// What this processor has, found at run time.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_ISA_H_
#define ELSERVE_ENGINE_BACKEND_CPU_ISA_H_

#include <string>

namespace elserve::cpu {

// Each level has all that the one before it has.
enum class Isa { kAvx2, kAvx512, kAvx512Bf16, kAmx };

// The best level of this processor; for AMX it asks the system for this process's tiles. kAvx2 is the least that the
// backend runs on: see HasAvx2.
Isa DetectIsa();
bool HasAvx2();
// What multiplies bytes, beside the levels.
bool HasAvxVnni();
bool HasAvx512Vnni();
bool HasAmxInt8();

// The processor's name and which of AVX2, AVX512, AVX512-BF16, VNNI and AMX it has, for logs and figures.
std::string ProcessorName();

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_ISA_H_
