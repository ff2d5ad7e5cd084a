#include "tests/engine/backend/backends_under_test.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "engine/backend/reference/reference_backend.h"

#if ELSERVE_TEST_CPU
#include "engine/backend/cpu/choose_isa.h"
#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/thread_pool.h"
#endif
#if ELSERVE_TEST_CUDA
#include "engine/backend/cuda/cuda_backend.h"
#include "tests/engine/backend/cuda/cuda_under_test.h"
#endif

// Whether the program tests approximations.
#ifndef ELSERVE_TEST_APPROXIMATIONS
#define ELSERVE_TEST_APPROXIMATIONS 0
#endif

namespace elserve {
namespace {

#if ELSERVE_TEST_CPU
BackendUnderTest Cpu(DataType state_type, cpu::Isa isa) {
  // More threads than most test machines have to spare, so that tasks end in any order.
  static auto* const pool = new ThreadPool(3);
  const std::string precision = state_type == DataType::kFloat32 ? "float32" : "bfloat16";
  const auto make = [=] {
    auto backend = MakeCpuBackend(
        {.state_type = state_type, .pool = pool, .isa = isa, .approximate = ELSERVE_TEST_APPROXIMATIONS != 0});
    if (!backend.ok()) ADD_FAILURE() << backend.status();
    return backend.ok() ? *std::move(backend) : nullptr;
  };
  const std::string name = "cpu " + precision + " " + cpu::IsaName(isa);
  if (const auto backend = make()) std::cerr << name << " is tested on " << backend->device_name() << "\n";
  return {.name = name, .state_type = state_type, .make = make};
}
#endif

#if ELSERVE_TEST_CUDA
// Emulated: devices that differ in which kernel takes a shape.
constexpr int kDevices = kEmulatedDevice ? 3 : 1;

BackendUnderTest Cuda(DataType state_type, int device) {
  const std::string precision = state_type == DataType::kFloat32 ? "float32" : "bfloat16";
  return {.name = "cuda:" + std::to_string(device) + " " + precision,
          .state_type = state_type,
          .make =
              [=] {
                auto backend = MakeCudaBackend({.state_type = state_type, .device = device});
                if (!backend.ok()) ADD_FAILURE() << backend.status();
                return backend.ok() ? *std::move(backend) : nullptr;
              },
          // Of the other emulated devices the one thing of interest is that their kernels run.
          .batches_every = static_cast<size_t>(!kEmulatedDevice ? 1
                                               : device == 0    ? 4
                                                                : 100)};
}
#endif

std::vector<BackendUnderTest> Make() {
  std::vector<BackendUnderTest> backends;
#if ELSERVE_TEST_CPU
  const char* const forced = std::getenv("ELSERVE_ISA");
  if (const absl::StatusOr<cpu::Isa> best = cpu::ChooseIsa(forced); best.ok()) {
    for (int isa = forced ? static_cast<int>(*best) : 0; isa <= static_cast<int>(*best); ++isa) {
      backends.push_back(Cpu(DataType::kFloat32, static_cast<cpu::Isa>(isa)));
      backends.push_back(Cpu(DataType::kBFloat16, static_cast<cpu::Isa>(isa)));
    }
  } else if (forced) {
    ADD_FAILURE() << best.status();
  }
#endif
#if ELSERVE_TEST_CUDA
  if (CudaIsUnderTest()) {
    backends.push_back(Cuda(DataType::kFloat32, 0));
    for (int device = 0; device < kDevices; ++device) {
      backends.push_back(Cuda(DataType::kBFloat16, device));
    }
  }
#endif
  if (backends.empty()) {
    backends.push_back({.name = "reference", .state_type = DataType::kFloat32, .make = MakeReferenceBackend});
  }
  return backends;
}

}  // namespace

const std::vector<BackendUnderTest>& BackendsUnderTest() {
  static const auto* const backends = new std::vector<BackendUnderTest>(Make());
  return *backends;
}

bool CudaIsAmongBackends() {
  const std::vector<BackendUnderTest>& all = BackendsUnderTest();
  return std::any_of(all.begin(), all.end(), [](const BackendUnderTest& b) { return b.name.starts_with("cuda"); });
}

}  // namespace elserve
