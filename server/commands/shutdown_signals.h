// SIGTERM and SIGINT, waited for on a thread instead of handled in the middle of another.
#ifndef ELSERVE_SERVER_COMMANDS_SHUTDOWN_SIGNALS_H_
#define ELSERVE_SERVER_COMMANDS_SHUTDOWN_SIGNALS_H_

#include <condition_variable>
#include <memory>
#include <mutex>

namespace elserve {

// The first signal releases Wait; the second ends the process at once, with exit code 1. Once per process, made before
// any other thread: it blocks the signals for the threads that come after it.
class ShutdownSignals {
 public:
  ShutdownSignals();

  // Until the first signal, which may have come before; returns its number.
  int Wait();

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable came;
    int signal = 0;  // guarded by mutex; 0: none yet
  };
  // Shared with the thread, which waits for the second signal until the process ends.
  const std::shared_ptr<State> state_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_SHUTDOWN_SIGNALS_H_
