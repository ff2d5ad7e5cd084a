// Captured decode steps, one for each bucket, and the events that order the two streams.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_GRAPHS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_GRAPHS_H_

#include <cuda_runtime.h>

#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/backend/cuda/context.h"
#include "engine/backend/cuda/row_arrays.h"

namespace elserve::cuda {

// A place in a stream that another stream waits for.
class Event {
 public:
  Event() = default;
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void Record(Context& context, cudaStream_t stream) {
    if (event_ == nullptr) {
      context.Check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
    }
    if (context.ok()) context.Check(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  // What the stream is given from here on runs after the last Record; at once, if there was none.
  void Wait(Context& context, cudaStream_t stream) const {
    if (event_ != nullptr && context.ok()) context.Check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class Graphs {
 public:
  Graphs() = default;
  ~Graphs() { Forget(); }
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  bool Has(const DecodeBucket& bucket) const { return Find(bucket) != nullptr; }
  // Keeps what `body` launches on the decode stream, without running it.
  void Capture(Context& context, const DecodeBucket& bucket, absl::FunctionRef<void()> body);
  void Launch(Context& context, const DecodeBucket& bucket) const;
  // All of them: the memory that they were captured with is gone.
  void Forget();

 private:
  struct Entry {
    DecodeBucket bucket;
    cudaGraphExec_t graph;
  };
  cudaGraphExec_t Find(const DecodeBucket& bucket) const;

  std::vector<Entry> entries_;
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_GRAPHS_H_
