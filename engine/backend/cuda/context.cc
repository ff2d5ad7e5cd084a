#include "engine/backend/cuda/context.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace elserve::cuda {
namespace {

constexpr int kLeastMajor = 8;  // compute capability 8.0: bfloat16 on the tensor cores, cp.async

std::string Option(int device) { return absl::StrCat("device: cuda:", device, ": "); }

int Attribute(cudaDeviceAttr attribute, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess ? value : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Context>> Context::Create(int device) {
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess) {
    cudaGetLastError();
    int driver = 0;
    cudaDriverGetVersion(&driver);
    // Without any driver CUDA speaks of an old one.
    const char* const missing = driver == 0 ? ", since no NVIDIA driver is installed (CUDA says: " : " (CUDA says: ";
    return absl::FailedPreconditionError(
        absl::StrCat(Option(device), "no CUDA device can be used here", missing, cudaGetErrorString(error), ")"));
  }
  if (devices == 0)
    return absl::FailedPreconditionError(absl::StrCat(Option(device), "this machine has no CUDA device"));
  if (device < 0 || device >= devices) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is cuda:", device, "; this machine has cuda:0 to cuda:", devices - 1));
  }
  std::unique_ptr<Context> context(new Context(device));
  if (const absl::Status status = context->Open(); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(Option(device), status.message()));
  }
  return context;
}

absl::Status Context::Open() {
  Bind();
  cudaDeviceProp properties;
  if (!Check(cudaGetDeviceProperties(&properties, device_), "cudaGetDeviceProperties")) return status_;
  major_ = properties.major, minor_ = properties.minor;
  kernels_device_ = {.processors = properties.multiProcessorCount,
                     .shared_bytes = Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device_),
                     .shared_bytes_each = Attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device_)};
  name_ = absl::StrFormat("%s (cuda:%d, compute capability %d.%d, %d multiprocessors, %.1f GiB)", properties.name,
                          device_, major_, minor_, properties.multiProcessorCount,
                          static_cast<double>(properties.totalGlobalMem) / (int64_t{1} << 30));
  if (major_ < kLeastMajor) {
    return absl::FailedPreconditionError(
        absl::StrCat("compute capability ", kLeastMajor, ".0 or later is needed; this is ", name_));
  }
  int least = 0, greatest = 0;
  Check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
  Check(cudaStreamCreateWithPriority(&encode_stream_, cudaStreamNonBlocking, least), "cudaStreamCreate");
  Check(cudaStreamCreateWithPriority(&decode_stream_, cudaStreamNonBlocking, greatest), "cudaStreamCreate");
  Check(cublasLtCreate(&products_), "cublasLtCreate");
  Check(PrepareKernels(kernels_device_), "the kernels' limits");
  if (!ok()) return status_;
  for (DeviceBlock* workspace : {&encode_workspace_, &decode_workspace_}) {
    absl::StatusOr<DeviceBlock> block = Allocate(kProductWorkspace);
    if (!block.ok()) return block.status();
    *workspace = *std::move(block);
  }
  return absl::OkStatus();
}

Context::~Context() {
  cudaSetDevice(device_);
  if (products_ != nullptr) cublasLtDestroy(products_);
  for (cudaStream_t stream : {encode_stream_, decode_stream_}) {
    if (stream == nullptr) continue;
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
}

bool Context::Check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) Fail(absl::InternalError(absl::StrCat(what, ": ", cudaGetErrorString(error))));
  return ok();
}

bool Context::Check(cublasStatus_t error, const char* what) {
  if (error != CUBLAS_STATUS_SUCCESS) {
    Fail(absl::InternalError(absl::StrCat(what, ": ", cublasLtGetStatusString(error))));
  }
  return ok();
}

void Context::Fail(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
}

absl::StatusOr<DeviceBlock> Context::Allocate(int64_t bytes) {
  Bind();
  if (!ok()) return status_;
  if (bytes <= 0) return DeviceBlock();
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (error == cudaSuccess) return DeviceBlock(static_cast<std::byte*>(data), bytes);
  cudaGetLastError();  // it is told here, and not again by the next launch
  if (error != cudaErrorMemoryAllocation) {
    Check(error, "cudaMalloc");
    return status_;
  }
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", bytes, " bytes on ", name_, ": ", free, " are free"));
}

absl::StatusOr<DeviceBlock> Context::AllocateZeroed(int64_t bytes) {
  absl::StatusOr<DeviceBlock> block = Allocate(bytes);
  if (!block.ok() || block->bytes() == 0) return block;
  Check(cudaMemsetAsync(block->data(), 0, static_cast<size_t>(bytes), decode_stream_), "cudaMemset");
  Check(cudaStreamSynchronize(decode_stream_), "cudaMemset");
  if (!ok()) return status_;
  return block;
}

absl::StatusOr<PinnedBlock> Context::AllocatePinned(int64_t bytes) {
  Bind();
  if (!ok()) return status_;
  if (bytes <= 0) return PinnedBlock();
  void* data = nullptr;
  const cudaError_t error = cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault);
  if (error == cudaSuccess) return PinnedBlock(static_cast<std::byte*>(data), bytes);
  cudaGetLastError();
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", bytes, " bytes of page-locked host memory: ", cudaGetErrorString(error)));
}

void Context::Upload(const void* from, int64_t bytes, void* to) { Transfer(from, bytes, to, cudaMemcpyHostToDevice); }

void Context::Download(const void* from, int64_t bytes, void* to) { Transfer(from, bytes, to, cudaMemcpyDeviceToHost); }

void Context::Transfer(const void* from, int64_t bytes, void* to, cudaMemcpyKind kind) {
  if (!ok() || bytes == 0) return;
  Synchronize();
  Check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), kind, decode_stream_), "cudaMemcpy");
  Check(cudaStreamSynchronize(decode_stream_), "cudaMemcpy");
}

void Context::Synchronize() {
  if (!ok()) return;
  Check(cudaStreamSynchronize(encode_stream_), "encoding");
  Check(cudaStreamSynchronize(decode_stream_), "decoding");
}

CardClocks Context::Clocks() const {
  return {.major = major_,
          .minor = minor_,
          .processors = kernels_device_.processors,
          .clock_hertz = 1e3 * Attribute(cudaDevAttrClockRate, device_),
          .memory_hertz = 1e3 * Attribute(cudaDevAttrMemoryClockRate, device_),
          .memory_bits = Attribute(cudaDevAttrGlobalMemoryBusWidth, device_)};
}

int64_t Context::FreeBytes() const {
  size_t free = 0, total = 0;
  cudaSetDevice(device_);
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) free = 0;
  return static_cast<int64_t>(free);
}

}  // namespace elserve::cuda
