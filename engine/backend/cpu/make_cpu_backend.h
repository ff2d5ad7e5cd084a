// The cpu backend: matrix work in blocks on packed weights, by kernels of the processor's best instruction set.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_MAKE_CPU_BACKEND_H_
#define ELSERVE_ENGINE_BACKEND_CPU_MAKE_CPU_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/backend/cpu/isa.h"
#include "engine/thread_pool.h"

namespace elserve {

struct CpuBackendOptions {
  DataType state_type = DataType::kFloat32;  // kFloat32 or kBFloat16
  ThreadPool* pool = nullptr;                // not owned; must outlive the backend
  // The kernels to use: at most what the processor has. Tests run each level.
  cpu::Isa isa = cpu::DetectIsa();
};

// FAILED_PRECONDITION on a processor without AVX2, or where `isa` is above what it has.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_BACKEND_CPU_MAKE_CPU_BACKEND_H_
