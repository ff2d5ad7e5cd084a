// A step's encode layout in device memory.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_ENCODE_ARRAYS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_ENCODE_ARRAYS_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/context.h"
#include "engine/backend/cuda/upload_buffer.h"
#include "engine/backend/cuda/work_items.h"

namespace elserve::cuda {

// The encode layout, as long as its positions.
struct EncodeArrays {
  const int32_t* tokens = nullptr;        // [positions]
  const int32_t* position_ids = nullptr;  // [positions]
  const int32_t* token_slots = nullptr;   // [positions]: StoreEncoderKernelArgs's
  const int32_t* items_count = nullptr;
  const EncodeItem* items = nullptr;
  int max_items = 0;
};

class EncodeLayoutArrays {
 public:
  // RESOURCE_EXHAUSTED where there is no room.
  absl::Status Allocate(Context& context, int positions);
  // Writes the layout and copies it on the phase's stream.
  void Send(Context& context, const EncodeLayout& layout);
  const EncodeArrays& arrays() const { return arrays_; }

 private:
  UploadBuffer buffer_;
  EncodeArrays arrays_;
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_ENCODE_ARRAYS_H_
