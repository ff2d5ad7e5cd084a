// One device: its streams, cublasLt's handle and workspaces, and the first error that it gave.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_CONTEXT_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_CONTEXT_H_

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/backend/cuda/device_figures.h"
#include "engine/backend/cuda/device_memory.h"
#include "engine/backend/cuda/kernels.h"

namespace elserve::cuda {

// Encoding and decoding have a stream each, so that the one fills what the other leaves idle; decoding goes first.
//
// An error sticks: after it every call of the backend returns at once, and `status` is what the engine gets. A device
// that failed in a kernel answers all later calls with the same error anyway.
class Context {
 public:
  // What cublasLt's algorithms may use for themselves, for each stream.
  static constexpr int64_t kProductWorkspace = int64_t{32} << 20;

  // Errors as MakeCudaBackend's.
  static absl::StatusOr<std::unique_ptr<Context>> Create(int device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // The calling thread's CUDA calls go to this device. Before anything else on a thread.
  void Bind() { Check(cudaSetDevice(device_), "cudaSetDevice"); }

  // Prefill and decoding follow each other on one.
  cudaStream_t stream(Phase phase) const { return phase == Phase::kEncode ? encode_stream_ : decode_stream_; }
  cublasLtHandle_t products() const { return products_; }
  void* product_workspace(Phase phase) const {
    return (phase == Phase::kEncode ? encode_workspace_ : decode_workspace_).data();
  }
  const Device& device() const { return kernels_device_; }
  int number() const { return device_; }             // CUDA's
  const std::string& name() const { return name_; }  // the card, its number and what it has

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  // Keeps the first error; true if there is none so far. `what`: the call or operation.
  bool Check(cudaError_t error, const char* what);
  bool Check(cublasStatus_t error, const char* what);
  void Fail(absl::Status status);

  // RESOURCE_EXHAUSTED where there is no room, which does not stick. Contents: anything, or zeros.
  absl::StatusOr<DeviceBlock> Allocate(int64_t bytes);
  absl::StatusOr<DeviceBlock> AllocateZeroed(int64_t bytes);
  absl::StatusOr<PinnedBlock> AllocatePinned(int64_t bytes);

  // Copies that have ended when they return, after all that was launched before.
  void Upload(const void* from, int64_t bytes, void* to);
  void Download(const void* from, int64_t bytes, void* to);
  // Waits for both streams.
  void Synchronize();

  CardClocks Clocks() const;
  int64_t FreeBytes() const;

 private:
  explicit Context(int device) : device_(device) {}
  absl::Status Open();
  void Transfer(const void* from, int64_t bytes, void* to, cudaMemcpyKind kind);

  const int device_;
  Device kernels_device_;
  std::string name_;
  int major_ = 0, minor_ = 0;
  absl::Status status_;
  cudaStream_t encode_stream_ = nullptr, decode_stream_ = nullptr;
  cublasLtHandle_t products_ = nullptr;
  DeviceBlock encode_workspace_, decode_workspace_;
};

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_CONTEXT_H_
