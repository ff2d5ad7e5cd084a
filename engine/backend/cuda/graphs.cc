#include "engine/backend/cuda/graphs.h"

namespace elserve::cuda {

cudaGraphExec_t Graphs::Find(const DecodeBucket& bucket) const {
  for (const Entry& entry : entries_) {
    if (entry.bucket == bucket) return entry.graph;
  }
  return nullptr;
}

void Graphs::Capture(Context& context, const DecodeBucket& bucket, absl::FunctionRef<void()> body) {
  const cudaStream_t stream = context.stream(Phase::kDecode);
  // Other models' threads may allocate meanwhile.
  if (!context.Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture"))
    return;
  body();
  cudaGraph_t graph = nullptr;
  const cudaError_t captured = cudaStreamEndCapture(stream, &graph);
  cudaGraphExec_t executable = nullptr;
  if (context.Check(captured, "cudaStreamEndCapture") &&
      context.Check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate") &&
      context.Check(cudaGraphUpload(executable, stream), "cudaGraphUpload")) {
    entries_.push_back({bucket, executable});
  }
  if (graph != nullptr) cudaGraphDestroy(graph);
}

void Graphs::Launch(Context& context, const DecodeBucket& bucket) const {
  if (context.ok()) context.Check(cudaGraphLaunch(Find(bucket), context.stream(Phase::kDecode)), "cudaGraphLaunch");
}

void Graphs::Forget() {
  for (const Entry& entry : entries_) cudaGraphExecDestroy(entry.graph);
  entries_.clear();
}

}  // namespace elserve::cuda
