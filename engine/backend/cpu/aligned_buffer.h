// Zeroed memory for weights, states and workspaces.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_ALIGNED_BUFFER_H_
#define ELSERVE_ENGINE_BACKEND_CPU_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <utility>

namespace elserve::cpu {

// A mapping of its own, on page boundaries, in huge pages where the system gives them: weights and states stream
// through it. The system backs it when it is first touched.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // `bytes` of zeros; empty if the system refuses them. Made by BufferSource.
  explicit AlignedBuffer(int64_t bytes);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // Has the system back bytes [begin, begin + n).
  void Touch(int64_t begin, int64_t n) const;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_ALIGNED_BUFFER_H_
