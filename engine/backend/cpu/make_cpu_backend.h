// The cpu backend: matrix work in blocks on packed weights, by kernels of one instruction set.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_MAKE_CPU_BACKEND_H_
#define ELSERVE_ENGINE_BACKEND_CPU_MAKE_CPU_BACKEND_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/backend/cpu/isa.h"
#include "engine/thread_pool.h"

namespace elserve {

struct CpuBackendOptions {
  // kFloat32 or kBFloat16; none: bfloat16 where the instruction set multiplies it.
  std::optional<DataType> state_type = std::nullopt;
  ThreadPool* pool = nullptr;  // not owned; must outlive the backend
  // Whose kernels to use, at most cpu::DetectIsa(); none: what ELSERVE_ISA forces, or the processor's best.
  std::optional<cpu::Isa> isa = std::nullopt;
  std::string host_root = "";  // see host_resources.h
  // Whether its attention may be asked for approximations, which have no kernels for tiles: at the level amx attention
  // has the layouts and the kernels of avx512_bf16 then.
  bool approximate = false;
};

// An error on a processor without AVX2, or where ELSERVE_ISA names no instruction set that the processor has.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_BACKEND_CPU_MAKE_CPU_BACKEND_H_
