// A step's layout in device memory: written into page-locked memory and copied by one cudaMemcpyAsync a phase.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_STEP_ARRAYS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_STEP_ARRAYS_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/context.h"
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/work_items.h"

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

// The encode layout, as long as its positions.
struct EncodeArrays {
  const int32_t* tokens = nullptr;        // [positions]
  const int32_t* position_ids = nullptr;  // [positions]
  const int32_t* token_slots = nullptr;   // [positions]: StoreEncoderKernelArgs's
  const int32_t* items_count = nullptr;
  const EncodeItem* items = nullptr;
  int max_items = 0;
};

// The decode layout padded to a bucket. All but the lengths of ancestry, forced tokens, edits and biases depends on the
// bucket alone, so that a graph that was captured for the bucket finds every step's.
struct DecodeArrays {
  const int32_t* tokens = nullptr;            // [positions]; padding: 0
  const int32_t* position_ids = nullptr;      // [positions]; padding: 0
  const int32_t* cells = nullptr;             // [positions]; padding: -1
  const int32_t* select_positions = nullptr;  // [select rows]; padding: 0
  const SelectItem* select = nullptr;         // [select rows]; padding asks for no candidates
  const int32_t* force = nullptr;
  const LogitEdit* edits = nullptr;
  const DocumentBias* document_biases = nullptr;  // [positions]
  const float* biases = nullptr;                  // all documents'
  AttentionWork cross;                            // over the page list
  AttentionWork self;                             // over the ancestry
};

struct DecodeBucket {
  int positions = 0;
  int select_rows = 0;
  bool operator==(const DecodeBucket&) const = default;
};

class StepArrays {
 public:
  // Takes what steps within `limits` need. RESOURCE_EXHAUSTED where there is no room.
  absl::Status Allocate(Context& context, const AttentionGeometry& cross, const AttentionGeometry& self,
                        const StepLimits& limits);

  // Writes and copies the layouts on their phases' streams.
  void Send(Context& context, const EncodeLayout& layout);
  // True: the arrays moved, because a step brought more edits than the limits say, or the first biases: nothing that
  // was captured holds.
  bool Send(Context& context, const DecodeLayout& layout, const DecodeBucket& bucket);

  const EncodeArrays& encode() const { return encode_; }
  // Where a bucket's arrays are.
  DecodeArrays decode(const DecodeBucket& bucket) const;

 private:
  struct Offsets;  // bytes, of a bucket's arrays
  Offsets OffsetsOf(const DecodeBucket& bucket) const;
  // The arrays without a bound of their own, end to end behind the others; returns the end.
  int64_t WriteTail(const DecodeLayout& layout, const Offsets& at) const;

  AttentionGeometry cross_, self_;
  StepLimits limits_;
  UploadBuffer encode_buffer_, decode_buffer_;
  EncodeArrays encode_;
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_STEP_ARRAYS_H_
