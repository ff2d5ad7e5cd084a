// The cuda backend: an NVIDIA GPU of compute capability 8.0 or later, by cublasLt's products and own kernels.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_CUDA_BACKEND_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_CUDA_BACKEND_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"

namespace elserve {

struct CudaBackendOptions {
  DataType state_type = DataType::kBFloat16;  // kFloat32 (never TF32) or kBFloat16
  int device = 0;                             // CUDA's number of it
};

// FAILED_PRECONDITION: no driver, no device, or one that is too old; INVALID_ARGUMENT: there is no device of that
// number. The message names `device` and says what CUDA said. A program with this backend starts without a driver.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_CUDA_BACKEND_H_
