#include "engine/backend/cuda/upload_buffer.h"

#include <utility>

namespace elserve::cuda {

UploadBuffer::~UploadBuffer() {
  if (sent_ != nullptr) cudaEventDestroy(sent_);
}

bool UploadBuffer::Reserve(Context& context, int64_t bytes) {
  if (bytes <= device_.bytes()) return false;
  context.Synchronize();
  absl::StatusOr<DeviceBlock> device = context.Allocate(bytes);
  absl::StatusOr<PinnedBlock> host = context.AllocatePinned(bytes);
  for (const absl::Status& status : {device.status(), host.status()}) {
    if (!status.ok()) context.Fail(status);
  }
  if (sent_ == nullptr) context.Check(cudaEventCreateWithFlags(&sent_, cudaEventDisableTiming), "cudaEventCreate");
  if (!context.ok()) return false;
  device_ = *std::move(device);
  host_ = *std::move(host);
  return true;
}

void UploadBuffer::Wait(Context& context) {
  if (sent_ != nullptr) context.Check(cudaEventSynchronize(sent_), "the step before");
}

void UploadBuffer::Send(Context& context, int64_t bytes, cudaStream_t stream) {
  context.Check(
      cudaMemcpyAsync(device_.data(), host_.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream),
      "cudaMemcpyAsync");
  context.Check(cudaEventRecord(sent_, stream), "cudaEventRecord");
}

}  // namespace elserve::cuda
