#include "engine/backend/cpu/buffer_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/test_directory.h"

namespace elserve::cpu {
namespace {

using testing::HasSubstr;

constexpr int64_t kMebibyte = int64_t{1} << 20;

// A system with 64 MiB of memory left.
class BufferSourceTest : public testing::Test {
 protected:
  BufferSourceTest() {
    std::filesystem::create_directory(root_.path() + "/proc");
    root_.Write("proc/meminfo", "MemTotal: 131072 kB\nMemAvailable: 65536 kB\n");
  }

  ThreadPool pool_{1};
  const TestDirectory root_;
  BufferSource buffers_{pool_, root_.path()};
};

TEST_F(BufferSourceTest, GivesWhatFits) {
  EXPECT_GE(buffers_.Take(kMebibyte, "weights").bytes(), kMebibyte);
  EXPECT_GE(buffers_.TakeBacked(kMebibyte, "states").bytes(), kMebibyte);
  EXPECT_TRUE(buffers_.status().ok()) << buffers_.status();
}

// Nothing is taken from the system that would have to kill for it, also not what would fit after all: a load that has
// failed ends.
TEST_F(BufferSourceTest, TakesNothingMoreOnceSomethingDidNotFit) {
  EXPECT_EQ(buffers_.TakeBacked(65 * kMebibyte, "states of memory: 65MiB").bytes(), 0);
  EXPECT_EQ(buffers_.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(buffers_.status().message(), HasSubstr("no room for 65.0 MiB of states of memory: 65MiB"));
  EXPECT_EQ(buffers_.Take(kMebibyte, "weights").bytes(), 0);
  EXPECT_THAT(buffers_.status().message(), HasSubstr("states of memory: 65MiB"));
}

}  // namespace
}  // namespace elserve::cpu
