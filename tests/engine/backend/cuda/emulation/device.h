// Devices whose work waits in streams until it has to be done, or happens to be.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_DEVICE_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_DEVICE_H_

#include <cuda_runtime.h>

#include <functional>
#include <set>

namespace elserve::cuda_emulation {

// The devices: what differs between them is the shared memory, by which kernels' instances are chosen.
inline constexpr int kDevices = 3;

// Does `work` in the stream's order, or puts it into the graph that the stream is captured into.
cudaError_t Enqueue(cudaStream_t stream, std::function<void()> work);

// Every kernel (by its function) that has run in this process.
std::set<const void*> KernelsRun();

}  // namespace elserve::cuda_emulation

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_DEVICE_H_
