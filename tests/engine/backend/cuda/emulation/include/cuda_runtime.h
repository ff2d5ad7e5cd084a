// What the cuda backend uses of CUDA's runtime and of its language, for a host compiler. Calls are those of CUDA's
// documentation; device.cc says how they come about.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_INCLUDE_CUDA_RUNTIME_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_INCLUDE_CUDA_RUNTIME_H_

#include <math.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>

#include "tests/engine/backend/cuda/emulation/block.h"

#define __host__
#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __noinline__  // the C++ library spells an attribute so

// Static shared memory is StaticShared's alone (ptx.cuh), so that each block has its own: __shared__ is not defined.

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }

struct dim3 {
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

inline const elserve::cuda_emulation::Index3& threadIdx = elserve::cuda_emulation::place.thread;
inline const elserve::cuda_emulation::Index3& blockIdx = elserve::cuda_emulation::place.block;
inline const elserve::cuda_emulation::Index3& gridDim = elserve::cuda_emulation::place.blocks;

inline int min(int a, int b) { return b < a ? b : a; }
inline int64_t min(int64_t a, int64_t b) { return b < a ? b : a; }
inline int max(int a, int b) { return a < b ? b : a; }
inline int64_t max(int64_t a, int64_t b) { return a < b ? b : a; }

inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }

template <typename T>
T __ldg(const T* at) {
  return *at;
}
template <typename T>
T __ldcg(const T* at) {
  return *at;
}
inline int atomicAdd(int* at, int value) { return std::exchange(*at, *at + value); }  // threads are fibers
inline void __threadfence() {}

inline void __syncthreads() { elserve::cuda_emulation::MeetBlock(false); }
inline int __syncthreads_or(int value) { return elserve::cuda_emulation::MeetBlock(value != 0); }

namespace elserve::cuda_emulation {

// An operation of all threads of a warp on a value of each. Work(values, arguments, results).
struct Exchanged {
  uint32_t value;
  int argument;
  uint32_t result;
};
template <uint32_t (*kResult)(const Exchanged* const* lanes, int lane)>
uint32_t Exchange(unsigned mask, uint32_t value, int argument) {
  if (mask != ~0u) Fail("a warp operation of some of the warp's threads");
  Exchanged own = {value, argument, 0};
  MeetWarp(
      [](void* const* brought) {
        const auto* lanes = reinterpret_cast<const Exchanged* const*>(brought);
        for (int lane = 0; lane < kWarpThreads; ++lane) {
          static_cast<Exchanged*>(brought[lane])->result = kResult(lanes, lane);
        }
      },
      &own);
  return own.result;
}
inline uint32_t FromLane(const Exchanged* const* lanes, int lane) {
  return lanes[lanes[lane]->argument % kWarpThreads]->value;
}
inline uint32_t FromOtherLane(const Exchanged* const* lanes, int lane) {
  return lanes[(lane ^ lanes[lane]->argument) % kWarpThreads]->value;
}
template <typename Fold>
uint32_t OfAll(const Exchanged* const* lanes, Fold fold) {
  uint32_t result = lanes[0]->value;
  for (int lane = 1; lane < kWarpThreads; ++lane) result = fold(result, lanes[lane]->value);
  return result;
}
inline uint32_t GreatestOfAll(const Exchanged* const* lanes, int) {
  return OfAll(lanes, [](uint32_t a, uint32_t b) { return a < b ? b : a; });
}
inline uint32_t LeastOfAll(const Exchanged* const* lanes, int) {
  return OfAll(lanes, [](uint32_t a, uint32_t b) { return b < a ? b : a; });
}
inline uint32_t AnyOfAll(const Exchanged* const* lanes, int) {
  return OfAll(lanes, [](uint32_t a, uint32_t b) { return a | b; });
}

}  // namespace elserve::cuda_emulation

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  using namespace elserve::cuda_emulation;
  return std::bit_cast<T>(Exchange<FromOtherLane>(mask, std::bit_cast<uint32_t>(value), lanes));
}
template <typename T>
T __shfl_sync(unsigned mask, T value, int lane) {
  using namespace elserve::cuda_emulation;
  return std::bit_cast<T>(Exchange<FromLane>(mask, std::bit_cast<uint32_t>(value), lane));
}
inline int __any_sync(unsigned mask, int value) {
  using namespace elserve::cuda_emulation;
  return Exchange<AnyOfAll>(mask, value != 0 ? 1 : 0, 0) != 0;
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  using namespace elserve::cuda_emulation;
  return Exchange<GreatestOfAll>(mask, value, 0);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  using namespace elserve::cuda_emulation;
  return Exchange<LeastOfAll>(mask, value, 0);
}
inline void __syncwarp() {
  elserve::cuda_emulation::MeetWarp([](void* const*) {}, nullptr);
}

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidDevice = 101,
  cudaErrorIllegalAddress = 700,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorUnknown = 999,
};
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaDriverGetVersion(int* version);

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int multiProcessorCount;
  int major, minor;
};
enum cudaDeviceAttr {
  cudaDevAttrClockRate,
  cudaDevAttrMemoryClockRate,
  cudaDevAttrGlobalMemoryBusWidth,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest);

inline constexpr unsigned cudaHostAllocDefault = 0;
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);

using cudaStream_t = struct EmulatedStream*;
using cudaEvent_t = struct EmulatedEvent*;
using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = struct EmulatedGraph*;

inline constexpr unsigned cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);

enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);

inline constexpr unsigned cudaEventDisableTiming = 2;
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned flags);
cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

namespace elserve::cuda_emulation {

cudaError_t AllowShared(const void* kernel, size_t bytes);
cudaError_t Enqueue(const void* kernel, const cudaLaunchConfig_t& config, std::function<void()> thread);

}  // namespace elserve::cuda_emulation

template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
  return elserve::cuda_emulation::AllowShared(reinterpret_cast<const void*>(kernel), static_cast<size_t>(value));
}
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... given) {
  // Copied now, as a launch does.
  std::tuple<Parameters...> arguments(std::forward<Arguments>(given)...);
  return elserve::cuda_emulation::Enqueue(reinterpret_cast<const void*>(kernel), *config,
                                          [kernel, arguments] { std::apply(kernel, arguments); });
}

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_INCLUDE_CUDA_RUNTIME_H_
