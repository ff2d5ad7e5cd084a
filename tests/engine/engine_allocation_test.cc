// A warm step takes no memory: not from new, not from malloc, on no thread; and not even the first one maps any.
#include <dlfcn.h>
#include <execinfo.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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
#include "engine/memory_plan.h"
#include "engine/thread_pool.h"
#include "gtest/gtest.h"
#include "tests/engine/traffic.h"

namespace {

constexpr int kFrames = 24;

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0}, allocated_bytes{0}, mappings{0};
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

void Count(size_t size) {
  if (!counting.load(std::memory_order_relaxed)) return;
  allocated_bytes += static_cast<int64_t>(size);
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
  Count(size);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) noexcept {
  Count(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* p, size_t size) noexcept {
  Count(size);
  return __libc_realloc(p, size);
}
void* memalign(size_t alignment, size_t size) noexcept {
  Count(size);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) noexcept {
  Count(size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** p, size_t alignment, size_t size) noexcept {
  Count(size);
  *p = __libc_memalign(alignment, size);
  return *p ? 0 : 12;  // ENOMEM
}
// The C library's own calls do not come here.
void* mmap(void* address, size_t size, int protection, int flags, int file, off_t offset) noexcept {
  if (counting.load(std::memory_order_relaxed)) ++mappings;
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, file, offset));
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

// Of the sequences that came last, in every third step. Returns how many.
size_t AskForReports(std::vector<StepPlan>* plans) {
  size_t reports = 0;
  SequenceId last = 0;
  for (size_t step = 0; step < plans->size(); ++step) {
    StepPlan& plan = (*plans)[step];
    const auto leaves = [&plan](SequenceId id) {
      return std::any_of(plan.ends.begin(), plan.ends.end(), [id](const EndSequence& end) { return end.id == id; });
    };
    if (step % 3 == 0 && last != 0) {
      for (SequenceId id = last - 1; id <= last; ++id) {
        if (leaves(id)) continue;
        plan.ends.push_back({id, EndKind::kReport});
        ++reports;
      }
    }
    for (const Admission& admission : plan.admissions) last = admission.id;
  }
  return reports;
}

// The same sequences again, under ids that no run had before.
void RenewIds(std::vector<StepPlan>* plans, uint64_t by) {
  for (StepPlan& plan : *plans) {
    for (Admission& admission : plan.admissions) admission.id += by;
    for (EndSequence& end : plan.ends) end.id += by;
  }
}

// From zero.
void StartCounting() {
  void* frames[1];
  backtrace(frames, 1);  // its first call loads a library
  allocations = allocated_bytes = mappings = 0;
  counting = true;
}

constexpr const char* kFavorCheckpoint = ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-favor";

class AllocationTest : public testing::TestWithParam<Variant> {
 protected:
  static void ExpectWarmStepsTakeNoMemory(const std::string& checkpoint);
};

void AllocationTest::ExpectWarmStepsTakeNoMemory(const std::string& checkpoint) {
  ThreadPool pool(3);
  const std::unique_ptr<Engine> engine = LoadEngine(OptionsFor(checkpoint, GetParam(), &pool));
  ASSERT_TRUE(engine);
  std::vector<Request> requests = RandomRequests(80, {96, 30, 283}, /*seed=*/21);
  EndSome(&requests, /*seed=*/22);
  // Alternatives, and the source where rules go by it, take memory of their own.
  for (Request& request : requests) {
    DecodingSpec& d = request.decoding;
    d.top_logprobs = d.encoder_no_repeat_ngram_size = 0;
    d.encoder_repetition_penalty = 1.0f;
  }
  // Half of them share documents, with others in flight or with what is kept; more than the memory holds.
  for (size_t i = 0; i < requests.size(); i += 2) {
    requests[i].source = requests[i % 20 + 1].source;
    requests[i].decoding.salience = requests[i % 20 + 1].decoding.salience;
  }
  std::vector<StepPlan> plans = RecordPlans(engine.get(), requests);
  ASSERT_GE(plans.size(), 100u);
  const size_t reports = AskForReports(&plans);

  StepResult result;
  int64_t joins = 0, leaves = 0;
  EncoderCacheCounts before;
  // Bad words and suppressed tokens are copied into the memory of whichever sequence is free: until all have had some.
  constexpr int kWarmRuns = 8;
  for (int run = 0; run <= kWarmRuns; ++run) {
    RenewIds(&plans, 1000000);
    void* frames[1];
    backtrace(frames, 1);  // its first call loads a library
    allocations = 0;
    before = result.encoder_cache;
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
  EXPECT_GE(leaves, 80 + static_cast<int64_t>(reports));
  EXPECT_GT(reports, 50u);
  EXPECT_GT(result.encoder_cache.hits, before.hits + 10);
  EXPECT_GT(result.encoder_cache.evictions, before.evictions + 20);
  EXPECT_EQ(allocations, 0) << "in " << plans.size() << " steps; the first one at" << FirstPlace();
}

TEST_P(AllocationTest, WarmStepsTakeNoMemory) { ExpectWarmStepsTakeNoMemory(TinyCheckpoint()); }

TEST_P(AllocationTest, WarmStepsWithFavorAttentionTakeNoMemory) {
  if (GetParam().device != DeviceKind::kCpu) GTEST_SKIP() << "the cpu's alone";
  ExpectWarmStepsTakeNoMemory(kFavorCheckpoint);
}

// Large buffers, logits among them, are taken at load: where there is no room for them no request has to hear of it.
TEST_P(AllocationTest, TheFirstStepsMapNothing) {
  if (GetParam().device != DeviceKind::kCpu) GTEST_SKIP() << "the buffers are the driver's";
  ThreadPool pool(2);
  EngineOptions options = OptionsFor(ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-relu", GetParam(), &pool);
  EngineOptions approximate = options, favor = options;
  approximate.approximation = {.top_k = 5, .values = AttentionValues::kPruned, .threshold = 0.01f};
  approximate.ffn_top_k = 7;
  approximate.int8_memory = false;  // which has none of it
  favor.checkpoint = kFavorCheckpoint;
  for (const EngineOptions& one : {options, approximate, favor}) {
    SCOPED_TRACE(absl::StrCat(one.checkpoint, ", feed-forward top-k ", one.ffn_top_k));
    StartCounting();
    const std::unique_ptr<Engine> engine = LoadEngine(one);
    counting = false;
    ASSERT_TRUE(engine);
    EXPECT_GT(mappings, 0);
    const std::vector<Request> requests = RandomRequests(20, {48, 30, 271}, /*seed=*/23);
    StartCounting();
    RunTogether(engine.get(), requests, /*joins_per_step=*/4, /*seed=*/24);
    counting = false;
    EXPECT_EQ(mappings, 0);
  }
}

// ListBytes is what the plan is held to: it may not forget a list that grows with the lengths.
TEST(ListBytes, CoverWhatLoadTakesForEachToken) {
  ThreadPool pool(2);
  constexpr int kRows = 1000;
  const auto taken = [&pool](int max_source_tokens, int max_decoder_tokens) {
    EngineOptions options = OptionsFor(TinyCheckpoint(), {Precision::kFloat32, kAllEl}, &pool);
    options.max_rows = kRows;
    options.max_source_tokens = max_source_tokens;
    options.max_decoder_tokens = max_decoder_tokens;
    StartCounting();
    const std::unique_ptr<Engine> engine = LoadEngine(options);
    counting = false;
    EXPECT_TRUE(engine);
    return static_cast<double>(allocated_bytes);
  };
  const auto planned = [](int max_decoder_tokens) {
    MemoryPlanInput in;
    in.max_decoder_tokens = max_decoder_tokens;
    in.max_rows = kRows;
    return static_cast<double>(ListBytes(in));
  };
  const double small = taken(32, 32);
  const double decoder = (taken(32, 96) - small) / (planned(96) - planned(32));
  EXPECT_LE(decoder, 1.0);
  EXPECT_GE(decoder, 0.8);
  EXPECT_LT((taken(96, 32) - small) / kRows, 1.0) << "lists for sources grow with the pages alone";
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
