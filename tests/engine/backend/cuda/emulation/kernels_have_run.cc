// In every test of the emulated backend: when all its tests have run, so have all kernels that are its own to test.
#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <string>

#include "tests/engine/backend/cuda/emulation/device.h"
#include "tests/engine/backend/cuda/emulation/kernel_list.h"

namespace elserve::cuda_emulation {
namespace {

class KernelsHaveRun : public testing::Environment {
 public:
  void TearDown() override {
    if (testing::GTEST_FLAG(filter) != "*" || testing::Test::HasFailure()) return;
    const std::set<const void*> run = KernelsRun();
    int count = 0;
    for (const auto& [name, function] : AllKernels()) {
      if (!std::regex_search(name, std::regex(ELSERVE_KERNELS_TO_RUN))) continue;
      ++count;
      EXPECT_TRUE(run.contains(function)) << "no test reaches " << name;
    }
    EXPECT_GT(count, 0) << "no kernel is called " << ELSERVE_KERNELS_TO_RUN;
    std::cout << "emulated cuda: " << count << " kernels are this program's to test; all have run: " << !HasFailure()
              << "\n";
  }

 private:
  static bool HasFailure() { return testing::Test::HasFailure(); }
};

[[maybe_unused]] testing::Environment* const environment = testing::AddGlobalTestEnvironment(new KernelsHaveRun);

}  // namespace
}  // namespace elserve::cuda_emulation
