#include "engine/backend/cpu/buffer_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace elserve::cpu {
namespace {

using testing::HasSubstr;

constexpr int64_t kMebibyte = int64_t{1} << 20;

// A system with 64 MiB of memory left.
std::string SmallSystem() {
  const std::string root = testing::TempDir() + "/buffer_source";
  std::filesystem::create_directories(root + "/proc");
  std::ofstream(root + "/proc/meminfo") << "MemTotal: 131072 kB\nMemAvailable: 65536 kB\n";
  return root;
}

TEST(BufferSource, GivesWhatFits) {
  ThreadPool pool(1);
  BufferSource buffers(pool, SmallSystem());
  EXPECT_GE(buffers.Take(kMebibyte, "weights").bytes(), kMebibyte);
  EXPECT_GE(buffers.TakeBacked(kMebibyte, "states").bytes(), kMebibyte);
  EXPECT_TRUE(buffers.status().ok()) << buffers.status();
}

// Nothing is taken from the system that would have to kill for it, also not what would fit after all: a load that has
// failed ends.
TEST(BufferSource, TakesNothingMoreOnceSomethingDidNotFit) {
  ThreadPool pool(1);
  BufferSource buffers(pool, SmallSystem());
  EXPECT_EQ(buffers.TakeBacked(65 * kMebibyte, "states of memory: 65MiB").bytes(), 0);
  EXPECT_EQ(buffers.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(buffers.status().message(), HasSubstr("no room for 65.0 MiB of states of memory: 65MiB"));
  EXPECT_EQ(buffers.Take(kMebibyte, "weights").bytes(), 0);
  EXPECT_THAT(buffers.status().message(), HasSubstr("states of memory: 65MiB"));
}

}  // namespace
}  // namespace elserve::cpu
