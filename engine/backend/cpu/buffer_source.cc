#include "engine/backend/cpu/buffer_source.h"

#include "absl/strings/str_cat.h"
#include "engine/host_resources.h"

namespace elserve::cpu {

bool BufferSource::Has(int64_t bytes, const std::string& what) {
  if (!status_.ok()) return false;
  const HostMemory memory = ReadHostMemory(host_root_);
  if (bytes <= memory.free()) return true;
  status_ =
      absl::ResourceExhaustedError(absl::StrCat("no room for ", Mebibytes(bytes), " of ", what, ": ", memory.Text()));
  return false;
}

AlignedBuffer BufferSource::Take(int64_t bytes, const std::string& what) {
  if (!Has(bytes, what)) return AlignedBuffer();
  AlignedBuffer buffer(bytes);
  if (buffer.bytes() < bytes) {
    status_ = absl::ResourceExhaustedError(
        absl::StrCat("no room for ", Mebibytes(bytes), " of ", what, ": the system refuses them"));
  }
  return buffer;
}

AlignedBuffer BufferSource::TakeBacked(int64_t bytes, const std::string& what) {
  constexpr int64_t kPart = int64_t{8} << 20;
  AlignedBuffer buffer = Take(bytes, what);
  pool_.Run((buffer.bytes() + kPart - 1) / kPart, [&](int64_t i, int) { buffer.Touch(i * kPart, kPart); });
  return buffer;
}

}  // namespace elserve::cpu
