// The one way in which kernels are launched.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_LAUNCH_CUH_
#define ELSERVE_ENGINE_BACKEND_CUDA_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <utility>

namespace elserve::cuda {

// An empty grid launches nothing: a step may have no work of some kind.
template <typename... Parameters, typename... Arguments>
cudaError_t Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, int shared_bytes, cudaStream_t stream,
                   Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_LAUNCH_CUH_
