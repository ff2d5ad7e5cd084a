// The process's one pool of compute threads, made by main and shared by all models.
#ifndef ELSERVE_ENGINE_THREAD_POOL_H_
#define ELSERVE_ENGINE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace elserve {

// Runs the tasks of one loop on all threads, taken dynamically: a thread that the system delays (a busy neighbour)
// costs the others no more than the task it holds. There are no teams and no barriers but the end of a loop.
//
// Thread-safe: loops of several callers run one after the other. A task must not call Run itself. Run allocates
// nothing.
class ThreadPool {
 public:
  // The number of processors that this process may use at a time, at least 1: those of its affinity mask, and no more
  // than the quota of its control groups pays (1.5 processors are 2). `root`: see host_resources.h.
  static int AvailableProcessors(const std::string& root = "");

  // `threads` counts the caller of Run, which works too: threads - 1 are started. At least 1.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(i, thread) for each i in [0, count), thread in [0, threads()), and returns when all have ended. Tasks
  // are started in the order of i, on threads that flush subnormal numbers to zero; the caller's mode is as it was
  // afterwards.
  template <typename Task>
  void Run(int64_t count, Task&& task) {
    RunErased(count, /*shares=*/1, task);
  }

  // The same, but that each thread has a share of its own, as many neighbouring tasks as the others, in their order,
  // and takes from another's once its own are taken: what tasks read one behind the other is one stream, and mostly the
  // same thread's whenever the loop runs. The thread's next task is likely i + 1.
  template <typename Task>
  void RunInShares(int64_t count, Task&& task) {
    RunErased(count, threads(), task);
  }

 private:
  using Call = void (*)(void* context, int64_t i, int thread);

  // Tasks [next, end) are still to be taken.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  template <typename Task>
  void RunErased(int64_t count, int shares, Task& task) {
    RunErased(
        count, shares,
        [](void* context, int64_t i, int thread) {
          (*static_cast<std::remove_reference_t<Task>*>(context))(i, thread);
        },
        const_cast<void*>(static_cast<const void*>(&task)));
  }
  void RunErased(int64_t count, int shares, Call call, void* context);
  void Work(int thread);
  void TakeTasks(int thread);
  bool Enter();
  void Leave();

  std::mutex run_mutex_;  // one loop at a time

  // The loop that is running: written by Run before it publishes a new generation, read by workers after they saw it.
  Call call_ = nullptr;
  void* context_ = nullptr;
  int share_count_ = 0;
  std::vector<Share> shares_;  // [threads]
  // kOpen while workers may enter the loop, plus the number of workers inside. Run waits for those inside alone: a
  // worker that the system has not woken yet holds nobody up.
  static constexpr uint32_t kOpen = 1u << 31;
  alignas(64) std::atomic<uint32_t> loop_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};  // the loop's number; workers wait for it to change
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_THREAD_POOL_H_
