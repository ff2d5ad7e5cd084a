// Included before isa.cc: a processor that has all that is emulated here. What it has of AVX2 and FMA is the truth.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_PROCESSOR_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_PROCESSOR_H_

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string_view>

namespace elserve::cpu {

inline bool IsEmulated(std::string_view feature) {
  for (const char* const emulated : {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "avx512vnni"}) {
    if (feature == emulated) return true;
  }
  return false;
}

// AMX-BF16, AMX-TILE and AMX-INT8, and AVX-VNNI.
inline bool GetEmulatedCpuid(unsigned leaf, unsigned subleaf, unsigned* a, unsigned* b, unsigned* c, unsigned* d) {
  if (!__get_cpuid_count(leaf, subleaf, a, b, c, d)) return false;
  if (leaf == 7 && subleaf == 0) *d |= 1u << 22 | 1u << 24 | 1u << 25;
  if (leaf == 7 && subleaf == 1) *a |= 1u << 4;
  return true;
}

// The system grants the tiles to whoever asks.
template <class... Arguments>
long Grant(Arguments...) {
  return 0;
}

}  // namespace elserve::cpu

#define __builtin_cpu_supports(feature) (elserve::cpu::IsEmulated(feature) || __builtin_cpu_supports(feature))
#define __get_cpuid_count elserve::cpu::GetEmulatedCpuid
#define syscall elserve::cpu::Grant

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_PROCESSOR_H_
