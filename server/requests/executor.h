// The threads on which requests/ works: token events become text here, never on an engine's thread.
#ifndef ELSERVE_SERVER_REQUESTS_EXECUTOR_H_
#define ELSERVE_SERVER_REQUESTS_EXECUTOR_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace elserve {

// Runs tasks in the order of Run() on a few threads of its own. Thread-safe; Run never blocks for longer than a queue's
// mutex is held. The queue has no limit of its own: its one user (Call) has at most one task of each call in it, and
// calls are bounded by the models' queues and memory. A task must not throw.
class Executor {
 public:
  // At least one thread is started.
  explicit Executor(int threads);
  // Runs what is queued, then joins. Nobody may call Run any more.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void Run(std::function<void()> task);

 private:
  void Work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_
  bool stop_ = false;                        // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_EXECUTOR_H_
