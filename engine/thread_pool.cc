#include "engine/thread_pool.h"

#include <pmmintrin.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "engine/host_resources.h"

namespace elserve {
namespace {

// How often a waiting thread looks before it sleeps: a decode step is a chain of short loops, and waking a sleeper
// takes longer than many of them.
constexpr int kSpins = 2000;

inline void Pause() { __builtin_ia32_pause(); }

// While it lives, this thread's float instructions take subnormal numbers for zeros and make none: weights near zero
// are subnormal, and some processors take a hundred times as long over one.
class FlushSubnormals {
 public:
  FlushSubnormals() : mode_(_mm_getcsr()) { _mm_setcsr(mode_ | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON); }
  ~FlushSubnormals() { _mm_setcsr(mode_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  const unsigned mode_;
};

}  // namespace

int ThreadPool::AvailableProcessors(const std::string& root) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  const int allowed = std::max(1, CPU_COUNT(&set));
  const std::optional<double> quota = CpuQuota(root);
  return quota && *quota < allowed ? std::max(1, static_cast<int>(std::ceil(*quota))) : allowed;
}

ThreadPool::ThreadPool(int threads) : shares_(std::max(1, threads)) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::RunErased(int64_t count, int shares, Call call, void* context) {
  if (count <= 0) return;
  std::lock_guard<std::mutex> lock(run_mutex_);
  const FlushSubnormals flush;
  if (workers_.empty() || count == 1) {
    for (int64_t i = 0; i < count; ++i) call(context, i, 0);
    return;
  }
  call_ = call;
  context_ = context;
  share_count_ = shares;
  for (int64_t i = 0; i < shares; ++i) {
    shares_[i].next.store(i * count / shares, std::memory_order_relaxed);
    shares_[i].end = (i + 1) * count / shares;
  }
  loop_.store(kOpen, std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  TakeTasks(0);
  uint32_t inside = loop_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  for (int spins = 0; inside != 0; inside = loop_.load(std::memory_order_acquire)) {
    if (++spins < kSpins) {
      Pause();
    } else {
      loop_.wait(inside, std::memory_order_acquire);
    }
  }
}

bool ThreadPool::Enter() {
  uint32_t loop = loop_.load(std::memory_order_relaxed);
  while (loop & kOpen) {
    if (loop_.compare_exchange_weak(loop, loop + 1, std::memory_order_acquire)) return true;
  }
  return false;
}

void ThreadPool::Leave() {
  if (loop_.fetch_sub(1, std::memory_order_release) == 1) loop_.notify_one();
}

void ThreadPool::TakeTasks(int thread) {
  for (int k = 0; k < share_count_; ++k) {
    Share& share = shares_[(thread + k) % share_count_];
    for (int64_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) call_(context_, i, thread);
  }
}

void ThreadPool::Work(int thread) {
  const FlushSubnormals flush;
  uint32_t seen = 0;
  while (true) {
    uint32_t generation;
    for (int spins = 0; (generation = generation_.load(std::memory_order_acquire)) == seen;) {
      if (++spins < kSpins) {
        Pause();
      } else {
        generation_.wait(seen, std::memory_order_acquire);
      }
    }
    seen = generation;
    if (stop_.load()) return;
    if (Enter()) {
      TakeTasks(thread);
      Leave();
    }
  }
}

}  // namespace elserve
