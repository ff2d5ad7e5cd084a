#include "server/commands/client/in_order.h"

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace elserve {
namespace {

// How far the inputs may run ahead of the output, for each thread.
constexpr int64_t kAhead = 4;

class InOrder {
 public:
  InOrder(const std::function<std::optional<Input>()>& next, int concurrency,
          const std::function<Output(const Input&)>& work, const std::function<void(const Output&)>& print)
      : next_(next), work_(work), print_(print), window_(kAhead * concurrency) {}

  void Work() {
    while (true) {
      int64_t index = 0;
      const std::optional<Input> input = Take(&index);
      if (!input) return;
      Output output = input->error.empty() ? work_(*input) : Output{.out = {}, .error = input->error};
      if (!output.error.empty()) output.error = input->name + ": " + output.error;
      Give(index, std::move(output));
    }
  }

  int failed() const { return failed_; }

 private:
  std::optional<Input> Take(int64_t* index) {
    std::unique_lock lock(mutex_);
    printed_more_.wait(lock, [this] { return taken_ - printed_ < window_; });
    std::optional<Input> input = next_();
    if (input) *index = taken_++;
    return input;
  }

  void Give(int64_t index, Output output) {
    const std::lock_guard lock(mutex_);
    done_.emplace(index, std::move(output));
    while (!done_.empty() && done_.begin()->first == printed_) {
      const Output first = std::move(done_.begin()->second);
      done_.erase(done_.begin());
      if (!first.error.empty()) ++failed_;
      print_(first);
      ++printed_;
    }
    printed_more_.notify_all();
  }

  const std::function<std::optional<Input>()>& next_;
  const std::function<Output(const Input&)>& work_;
  const std::function<void(const Output&)>& print_;
  const int64_t window_;

  std::mutex mutex_;
  std::condition_variable printed_more_;
  // Guarded by mutex_.
  int64_t taken_ = 0, printed_ = 0;
  std::map<int64_t, Output> done_;  // waits for those before it
  int failed_ = 0;
};

}  // namespace

int RunInOrder(const std::function<std::optional<Input>()>& next, int concurrency,
               const std::function<Output(const Input&)>& work, const std::function<void(const Output&)>& print) {
  InOrder state(next, concurrency, work, print);
  std::vector<std::thread> threads;
  for (int i = 1; i < concurrency; ++i) threads.emplace_back([&state] { state.Work(); });
  state.Work();
  for (std::thread& thread : threads) thread.join();
  return state.failed();
}

}  // namespace elserve
