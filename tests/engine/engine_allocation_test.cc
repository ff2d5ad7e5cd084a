// A warm step takes no memory: not from new, not from malloc, on no thread.
#include <dlfcn.h>
#include <execinfo.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "gtest/gtest.h"
#include "tests/engine/traffic.h"

namespace {

constexpr int kFrames = 24;

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};
void* first_frames[kFrames];  // of the first allocation that was counted
int first_depth = 0;

// Whether the call comes from what a GPU's maker ships: what the driver and cublasLt take for themselves is not ours
// to count, nor to prevent.
bool ComesFromTheDriver() {
  void* frames[kFrames];
  const int depth = backtrace(frames, kFrames);
  for (int i = 0; i < depth; ++i) {
    Dl_info info;
    if (dladdr(frames[i], &info) == 0 || info.dli_fname == nullptr) continue;
    if (std::strstr(info.dli_fname, "libcuda") != nullptr || std::strstr(info.dli_fname, "libcublas") != nullptr)
      return true;
  }
  return false;
}

void Count() {
  if (!counting.load(std::memory_order_relaxed)) return;
  if (ComesFromTheDriver()) return;
  if (allocations.fetch_add(1) == 0) first_depth = backtrace(first_frames, kFrames);
}

}  // namespace

// These stand before the C library's own for the whole program; operator new comes here too.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* p, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
// NOLINTEND(bugprone-reserved-identifier)

void* malloc(size_t size) noexcept {
  Count();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) noexcept {
  Count();
  return __libc_calloc(count, size);
}
void* realloc(void* p, size_t size) noexcept {
  Count();
  return __libc_realloc(p, size);
}
void* memalign(size_t alignment, size_t size) noexcept {
  Count();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) noexcept {
  Count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** p, size_t alignment, size_t size) noexcept {
  Count();
  *p = __libc_memalign(alignment, size);
  return *p ? 0 : 12;  // ENOMEM
}
}  // extern "C"

namespace elserve {
namespace {

// Addresses for addr2line, to find the place when the test fails.
std::string FirstPlace() {
  std::string place;
  for (int i = 0; i < first_depth; ++i) absl::StrAppend(&place, " 0x", absl::Hex(first_frames[i]));
  return place;
}

// The plans of a run of `requests`: what joins and leaves in each step. Steps are deterministic, so the same plans can
// be carried out again.
std::vector<StepPlan> RecordPlans(Engine* engine, const std::vector<Request>& requests) {
  std::vector<StepPlan> plans;
  Traffic traffic(engine, requests);
  traffic.Record(&plans);
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  traffic.Run(order, 2);
  return plans;
}

// The same sequences again, under ids that no run had before.
void RenewIds(std::vector<StepPlan>* plans, uint64_t by) {
  for (StepPlan& plan : *plans) {
    for (Admission& admission : plan.admissions) admission.id += by;
    for (EndSequence& end : plan.ends) end.id += by;
  }
}

class AllocationTest : public testing::TestWithParam<Variant> {};

TEST_P(AllocationTest, WarmStepsTakeNoMemory) {
  ThreadPool pool(3);
  const std::unique_ptr<Engine> engine = LoadEngine(OptionsFor(TinyCheckpoint(), GetParam(), &pool));
  ASSERT_TRUE(engine);
  std::vector<Request> requests = RandomRequests(80, {96, 30, 283}, /*seed=*/21);
  EndSome(&requests, /*seed=*/22);
  std::vector<StepPlan> plans = RecordPlans(engine.get(), requests);
  ASSERT_GE(plans.size(), 100u);

  StepResult result;
  int64_t joins = 0, leaves = 0;
  constexpr int kWarmRuns = 4;
  for (int run = 0; run <= kWarmRuns; ++run) {
    RenewIds(&plans, 1000000);
    void* frames[1];
    backtrace(frames, 1);  // its first call loads a library
    allocations = 0;
    counting = run == kWarmRuns;
    for (const StepPlan& plan : plans) {
      const absl::Status status = engine->Step(plan, &result);
      if (!status.ok()) {
        counting = false;
        FAIL() << status;
      }
      if (!counting) continue;
      joins += static_cast<int64_t>(plan.admissions.size());
      leaves += static_cast<int64_t>(plan.ends.size());
      for (const SequenceUpdate& update : result.updates) leaves += update.finished;
    }
    counting = false;
    ASSERT_EQ(engine->free(), engine->info().capacity);
  }
  EXPECT_EQ(joins, 80);
  EXPECT_GE(leaves, 80);
  EXPECT_EQ(allocations, 0) << "in " << plans.size() << " steps; the first one at" << FirstPlace();
}

// The counter itself must be able to see an allocation.
TEST(AllocationCounter, SeesNewAndMallocOnEveryThread) {
  void* frames[1];
  backtrace(frames, 1);
  ThreadPool pool(2);
  allocations = 0;
  counting = true;
  const auto number = std::make_unique<std::atomic<int>>(0);
  void* bytes = std::malloc(100);
  pool.Run(8, [&number](int64_t, int) { *number += static_cast<int>(std::vector<int>(3, 1).size()); });
  counting = false;
  std::free(bytes);
  EXPECT_EQ(*number, 24);
  EXPECT_GE(allocations, 10);
}

INSTANTIATE_TEST_SUITE_P(All, AllocationTest, testing::ValuesIn(Variants()), testing::PrintToStringParamName());

}  // namespace
}  // namespace elserve
