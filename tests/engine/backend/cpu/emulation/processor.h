// Included before isa.cc: a processor that has all that is emulated here. What it has of AVX2 and FMA is the truth.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_PROCESSOR_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_PROCESSOR_H_

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace elserve::cpu {

// ELSERVE_ISA: the best level that is there; all of them where it is not set.
inline bool IsThere(std::string_view feature) {
  const char* const set = std::getenv("ELSERVE_ISA");
  const std::string_view level = set ? set : "amx";
  if (feature == "avx512bf16") return level == "avx512_bf16" || level == "amx";
  if (feature == "amx") return level == "amx";
  return feature.substr(0, 6) == "avx512" && level != "avx2";
}

// AMX-BF16 and AMX-TILE.
inline bool GetEmulatedCpuid(unsigned leaf, unsigned subleaf, unsigned* a, unsigned* b, unsigned* c, unsigned* d) {
  if (!__get_cpuid_count(leaf, subleaf, a, b, c, d)) return false;
  if (leaf == 7 && subleaf == 0) *d = IsThere("amx") ? *d | 1u << 22 | 1u << 24 : 0;
  return true;
}

// The system grants the tiles to whoever asks.
template <class... Arguments>
long Grant(Arguments...) {
  return 0;
}

}  // namespace elserve::cpu

#define __builtin_cpu_supports(feature) (elserve::cpu::IsThere(feature) || __builtin_cpu_supports(feature))
#define __get_cpuid_count elserve::cpu::GetEmulatedCpuid
#define syscall elserve::cpu::Grant

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CPU_EMULATION_PROCESSOR_H_
