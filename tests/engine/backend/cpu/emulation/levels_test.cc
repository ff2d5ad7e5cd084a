// Linked into every program of the emulated backend: which levels it has, and which one its engines run.
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

TEST(EmulatedLevels, EachUpToTheOneAskedForIsThereAndThatIsTheEngines) {
  const char* const asked = std::getenv("ELSERVE_ISA");
  const std::string level = asked ? asked : "amx";
  const int best = level == "amx" ? 3 : level == "avx512_bf16" ? 2 : 1;
  ASSERT_TRUE(cpu::HasAvx2());
  ASSERT_EQ(static_cast<int>(cpu::DetectIsa()), best);
  ThreadPool pool(1);
  const auto expect = [](const auto& backend, int isa) {
    ASSERT_TRUE(backend.ok()) << backend.status();
    const std::string name = (*backend)->device_name();
    EXPECT_THAT(name, testing::HasSubstr(std::string(" ") + kNames[isa] + " kernels"));
    std::cout << "emulated: " << name << std::endl;
  };
  for (int isa = 0; isa <= best; ++isa) {
    expect(MakeCpuBackend({.state_type = DataType::kBFloat16, .pool = &pool, .isa = static_cast<cpu::Isa>(isa)}), isa);
  }
  expect(MakeCpuBackend({.state_type = DataType::kBFloat16, .pool = &pool}), best);
}

}  // namespace
}  // namespace elserve
