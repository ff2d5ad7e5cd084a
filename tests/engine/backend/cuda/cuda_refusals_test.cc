// What an engine on cuda does not load: models that need an operation which this device has not.
#include <string>

#include "engine/engine.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace elserve {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CudaRefusals, FavorAttention) {
  EngineOptions options;
  options.checkpoint = ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-favor";
  options.device = DeviceKind::kCuda;
  const auto engine = Engine::Load(options);
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(engine.status().message()),
              AllOf(HasSubstr("attention_type \"favor\""), HasSubstr("device: cuda has no kernels"),
                    HasSubstr("use device: cpu")));
}

}  // namespace
}  // namespace elserve
