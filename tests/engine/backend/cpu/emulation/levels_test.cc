// Linked into every program of the emulated backend: all levels are there, and the one that ELSERVE_ISA forces is that
// of its engines.
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

// In bfloat16, for which each level has kernels of its own.
constexpr const char* kNames[] = {"AVX2", "AVX512", "AVX512-BF16", "AMX"};
constexpr const char* kForced[] = {"avx2", "avx512", "avx512_bf16", "amx"};

TEST(EmulatedLevels, AreThereAndTheForcedOneRuns) {
  const char* const forced = std::getenv("ELSERVE_ISA");
  int expected = 3;
  for (int isa = 0; isa < 4; ++isa) {
    if (forced && std::string(kForced[isa]) == forced) expected = isa;
  }
  ASSERT_TRUE(cpu::HasAvx2());
  ASSERT_EQ(cpu::DetectIsa(), cpu::Isa::kAmx);
  ThreadPool pool(1);
  const auto expect = [](const auto& backend, int isa) {
    ASSERT_TRUE(backend.ok()) << backend.status();
    const std::string name = (*backend)->device_name();
    EXPECT_THAT(name, testing::HasSubstr(std::string(" ") + kNames[isa] + " kernels"));
    std::cout << "emulated: " << name << std::endl;
  };
  for (int isa = 0; isa < 4; ++isa) {
    expect(MakeCpuBackend({.state_type = DataType::kBFloat16, .pool = &pool, .isa = static_cast<cpu::Isa>(isa)}), isa);
  }
  expect(MakeCpuBackend({.state_type = DataType::kBFloat16, .pool = &pool}), expected);
}

}  // namespace
}  // namespace elserve
