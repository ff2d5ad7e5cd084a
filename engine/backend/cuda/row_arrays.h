// A phase's rows in device memory: a DecodeLayout as the kernels read it.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_ROW_ARRAYS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_ROW_ARRAYS_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "absl/status/status.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/context.h"
#include "engine/backend/cuda/kernels.h"
#include "engine/backend/cuda/upload_buffer.h"
#include "engine/backend/cuda/work_items.h"

namespace elserve::cuda {

// A layout of rows, padded to a bucket. All but the lengths of ancestry, forced tokens, edits and biases depends on the
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
  // The same for documents with biases alone, and for those without; of buckets that are not biased neither.
  AttentionWork biased_cross, plain_cross;
  AttentionWork self;  // over the ancestry, which is listed row after row
};

struct DecodeBucket {
  int positions = 0;
  int select_rows = 0;
  bool biased = false;  // some of the documents have biases
  bool operator==(const DecodeBucket&) const = default;
};

// Of kPrefill or kDecode.
class RowArrays {
 public:
  // The most of a step, and how its attention goes.
  struct Limits {
    AttentionGeometry cross, self;
    DecodeBucket bucket;
    int64_t cells = 0;  // of all rows' ancestry
    int decoder_length = 0;
    int source_length = 0;
    int64_t edits = 0;
    int64_t biases = 0;
  };
  // RESOURCE_EXHAUSTED where there is no room.
  absl::Status Allocate(Context& context, const Limits& limits);

  // Writes the layout and copies it on the phase's stream. True: the arrays moved, because a step brought more edits
  // or biases than the limits say: nothing that was captured holds.
  bool Send(Context& context, const DecodeLayout& layout, const DecodeBucket& bucket);
  // Where a bucket's arrays are.
  DecodeArrays Of(const DecodeBucket& bucket) const;

 private:
  struct Offsets;  // bytes, of a bucket's arrays
  Offsets OffsetsOf(const DecodeBucket& bucket) const;
  void WriteRows(const DecodeLayout& layout, const DecodeBucket& bucket, const Offsets& at) const;
  // The arrays without a bound of their own, end to end behind the others; returns the end.
  int64_t WriteTail(const DecodeLayout& layout, const Offsets& at) const;

  Limits limits_;
  UploadBuffer buffer_;
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_ROW_ARRAYS_H_
