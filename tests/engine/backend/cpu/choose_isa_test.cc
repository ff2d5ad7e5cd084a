#include "engine/backend/cpu/choose_isa.h"

#include <memory>
#include <string>

#include "engine/backend/cpu/make_cpu_backend.h"
#include "engine/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve::cpu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kForced[] = {"avx2", "avx512", "avx512_bf16", "amx"};

TEST(ChooseIsa, TakesTheBestWhereNothingIsForced) {
  EXPECT_EQ(*ChooseIsa(nullptr), DetectIsa());
  EXPECT_EQ(*ChooseIsa(""), DetectIsa());
}

TEST(ChooseIsa, ForcesWhatTheProcessorHasAndNoMore) {
  for (int i = 0; i < 4; ++i) {
    const absl::StatusOr<Isa> isa = ChooseIsa(kForced[i]);
    if (static_cast<Isa>(i) <= DetectIsa()) {
      ASSERT_TRUE(isa.ok()) << isa.status();
      EXPECT_EQ(*isa, static_cast<Isa>(i));
    } else {
      EXPECT_EQ(isa.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(isa.status().message()),
                  AllOf(HasSubstr(std::string("ELSERVE_ISA is ") + kForced[i]),
                        HasSubstr(std::string("no more than ") + kForced[static_cast<int>(DetectIsa())]),
                        HasSubstr(ProcessorName())));
    }
  }
}

TEST(ChooseIsa, NamesWhatIsAllowed) {
  for (const char* unknown : {"AVX2", "avx", "avx512-bf16", "avx2 "}) {
    const absl::Status status = ChooseIsa(unknown).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(std::string("ELSERVE_ISA is \"") + unknown + "\""),
                                                     HasSubstr("avx2, avx512, avx512_bf16, amx")));
  }
}

// What a backend says of itself is what its table of kernels was compiled for: float32 has no kernels of its own above
// AVX512.
TEST(ChooseIsa, ABackendSaysWhoseKernelsItRuns) {
  ThreadPool pool(1);
  constexpr const char* kFloat32[] = {"AVX2", "AVX512", "AVX512", "AVX512"};
  constexpr const char* kBFloat16[] = {"AVX2", "AVX512", "AVX512-BF16", "AMX"};
  for (int i = 0; i <= static_cast<int>(DetectIsa()); ++i) {
    for (const DataType type : {DataType::kFloat32, DataType::kBFloat16}) {
      const auto backend = MakeCpuBackend({.state_type = type, .pool = &pool, .isa = static_cast<Isa>(i)});
      ASSERT_TRUE(backend.ok()) << backend.status();
      const std::string kernels = type == DataType::kFloat32 ? kFloat32[i] : kBFloat16[i];
      EXPECT_THAT((*backend)->device_name(), HasSubstr(", " + kernels + " kernels"));
    }
  }
}

}  // namespace
}  // namespace elserve::cpu
