// Page-locked memory that is written on the host and copied to the device by one cudaMemcpyAsync.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_UPLOAD_BUFFER_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_UPLOAD_BUFFER_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "engine/backend/cuda/context.h"

namespace elserve::cuda {

// One phase's memory on both sides. What is written waits for the copy before.
class UploadBuffer {
 public:
  UploadBuffer() = default;
  ~UploadBuffer();
  UploadBuffer(const UploadBuffer&) = delete;
  UploadBuffer& operator=(const UploadBuffer&) = delete;

  // Room for so many bytes. True: `device()` is another place than before. Waits and allocates where it grows.
  bool Reserve(Context& context, int64_t bytes);
  // Before writing host().
  void Wait(Context& context);
  void Send(Context& context, int64_t bytes, cudaStream_t stream);

  std::byte* host() const { return host_.data(); }
  std::byte* device() const { return device_.data(); }

 private:
  PinnedBlock host_;
  DeviceBlock device_;
  cudaEvent_t sent_ = nullptr;  // of the last copy
};

// Hands out places of a buffer one after the other.
class Places {
 public:
  // Where `count` of them begin: bytes.
  template <typename T>
  int64_t Take(int64_t count) {
    constexpr int64_t kAlign = 16;
    const int64_t at = end_;
    end_ = (end_ + count * static_cast<int64_t>(sizeof(T)) + kAlign - 1) / kAlign * kAlign;
    return at;
  }
  int64_t end() const { return end_; }

 private:
  int64_t end_ = 0;
};

template <typename T>
T* At(std::byte* base, int64_t byte) {
  return reinterpret_cast<T*>(base + byte);
}

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_UPLOAD_BUFFER_H_
