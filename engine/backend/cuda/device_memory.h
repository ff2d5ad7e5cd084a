// Memory that ends with its owner: on the device, and on the host where the device can reach it.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_DEVICE_MEMORY_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_DEVICE_MEMORY_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace elserve::cuda {

struct FreeDevice {
  void operator()(std::byte* data) const { cudaFree(data); }
};
struct FreeHost {
  void operator()(std::byte* data) const { cudaFreeHost(data); }
};

// A block of memory: moved, not copied. Made by Context::Allocate and Context::AllocatePinned.
template <typename Free>
class Block {
 public:
  Block() = default;
  Block(std::byte* data, int64_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* data() const { return data_.get(); }
  template <typename T>
  T* as(int64_t byte = 0) const {
    return reinterpret_cast<T*>(data_.get() + byte);
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<std::byte, Free> data_;
  int64_t bytes_ = 0;
};

using DeviceBlock = Block<FreeDevice>;
// Page-locked: copied from without a detour, and written by kernels over the bus.
using PinnedBlock = Block<FreeHost>;

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_DEVICE_MEMORY_H_
