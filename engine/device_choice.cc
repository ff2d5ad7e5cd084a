#include "engine/device_choice.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#if ELSERVE_CPU
#include "engine/backend/cpu/make_cpu_backend.h"
#endif
#if ELSERVE_CUDA
#include "engine/backend/cuda/cuda_backend.h"
#endif
#if ELSERVE_REFERENCE
#include "engine/backend/reference/reference_backend.h"
#endif

namespace elserve {
namespace {

using MadeBackend = absl::StatusOr<std::unique_ptr<Backend>>;

MadeBackend MakeReference([[maybe_unused]] const EngineOptions& options) {
#if ELSERVE_REFERENCE
  if (options.precision == Precision::kBFloat16) {
    return absl::InvalidArgumentError("precision: bfloat16 with device: reference; its states are float32 alone");
  }
  return MakeReferenceBackend();
#else
  return absl::InvalidArgumentError("device: reference is not part of this build");
#endif
}

MadeBackend MakeCpu([[maybe_unused]] const EngineOptions& options) {
#if ELSERVE_CPU
  if (!options.pool) return absl::InvalidArgumentError("the cpu needs a thread pool");
  CpuBackendOptions cpu;
  cpu.pool = options.pool;
  cpu.host_root = options.host_root;
  cpu.approximate = !options.approximation.exact();
  if (options.precision == Precision::kFloat32) cpu.state_type = DataType::kFloat32;
  if (options.precision == Precision::kBFloat16 || options.precision == Precision::kInt8 ||
      (options.precision == Precision::kAuto && options.int8_memory)) {
    cpu.state_type = DataType::kBFloat16;
  }
  return MakeCpuBackend(cpu);
#else
  return absl::InvalidArgumentError("device: cpu is not part of this build");
#endif
}

MadeBackend MakeCuda([[maybe_unused]] const EngineOptions& options) {
#if ELSERVE_CUDA
  CudaBackendOptions cuda;
  cuda.device = options.device_index;
  cuda.state_type = options.precision == Precision::kFloat32 ? DataType::kFloat32 : DataType::kBFloat16;
  return MakeCudaBackend(cuda);
#else
  return absl::InvalidArgumentError("device: cuda is not part of this build: it was made without CUDA");
#endif
}

absl::StatusOr<ChosenDevice> Chosen(MadeBackend backend, std::string reason) {
  if (!backend.ok()) return backend.status();
  return ChosenDevice{*std::move(backend), std::move(reason)};
}

}  // namespace

absl::StatusOr<ChosenDevice> ChooseDevice(const EngineOptions& options) {
  switch (options.device) {
    case DeviceKind::kReference:
      return Chosen(MakeReference(options), "as configured");
    case DeviceKind::kCpu:
      return Chosen(MakeCpu(options), "as configured");
    case DeviceKind::kCuda:
      return Chosen(MakeCuda(options), "as configured");
    case DeviceKind::kAuto:
      break;
  }
  MadeBackend cuda = MakeCuda(options);
  if (cuda.ok()) return Chosen(std::move(cuda), "auto: a CUDA device is there");
  // Where there is no other choice, the device's own error is the one to read.
  if (!ELSERVE_CPU && ELSERVE_CUDA) return cuda.status();
  return Chosen(MakeCpu(options), absl::StrCat("auto: the cpu, because ", cuda.status().message()));
}

}  // namespace elserve
