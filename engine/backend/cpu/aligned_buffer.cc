#include "engine/backend/cpu/aligned_buffer.h"

#include <sys/mman.h>

namespace elserve::cpu {

AlignedBuffer::AlignedBuffer(int64_t bytes) {
  if (bytes <= 0) return;
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return;
  madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // advice: refused is fine
  data_ = static_cast<std::byte*>(data);
  bytes_ = bytes;
}

void AlignedBuffer::Touch(int64_t begin, int64_t n) const {
  constexpr int64_t kSystemPage = 4096;
  // Writes zeros where there are zeros.
  for (int64_t at = begin; at < begin + n && at < bytes_; at += kSystemPage) {
    *static_cast<volatile std::byte*>(data_ + at) = std::byte{0};
  }
}

AlignedBuffer::~AlignedBuffer() {
  if (data_) munmap(data_, static_cast<size_t>(bytes_));
}

}  // namespace elserve::cpu
