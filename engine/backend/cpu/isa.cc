#include "engine/backend/cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace elserve::cpu {
namespace {

bool HasAmxBf16() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (1u << 22)) && (d & (1u << 24));
}

// The tiles' registers are large: the system gives them to a process that asked (Linux 5.16).
bool TilesAreGranted() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::string ModelName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) {
      const size_t at = line.find(": ");
      if (at != std::string::npos) return line.substr(at + 2);
    }
  }
  return "unknown processor";
}

}  // namespace

bool HasAvxVnni() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}
bool HasAvx512Vnni() { return __builtin_cpu_supports("avx512vnni"); }
bool HasAmxInt8() {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & (1u << 25));
}

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

Isa DetectIsa() {
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && __builtin_cpu_supports("avx512bf16")) {
    static const bool tiles = HasAmxBf16() && TilesAreGranted();
    return tiles ? Isa::kAmx : Isa::kAvx512Bf16;
  }
  return avx512 ? Isa::kAvx512 : Isa::kAvx2;
}

std::string ProcessorName() {
  std::string has;
  const auto add = [&has](bool there, const char* name) {
    if (there) has += (has.empty() ? "" : ", ") + std::string(name);
  };
  add(__builtin_cpu_supports("avx2"), "AVX2");
  add(__builtin_cpu_supports("avx512f"), "AVX512");
  add(__builtin_cpu_supports("avx512bf16"), "AVX512-BF16");
  add(__builtin_cpu_supports("avx512vnni"), "VNNI");
  add(HasAmxBf16(), "AMX");
  return ModelName() + " (" + has + ")";
}

}  // namespace elserve::cpu
