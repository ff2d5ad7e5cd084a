#include "server/commands/shutdown_signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>
#include <thread>

namespace elserve {

ShutdownSignals::ShutdownSignals() : state_(std::make_shared<State>()) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A reader of our output that went away is an error of write, not the end.
  signal(SIGPIPE, SIG_IGN);
  std::thread([state = state_, signals] {
    int number = 0;
    sigwait(&signals, &number);
    {
      const std::lock_guard lock(state->mutex);
      state->signal = number;
    }
    state->came.notify_all();
    sigwait(&signals, &number);
    constexpr std::string_view kMessage = "second signal: ending at once\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage.data(), kMessage.size());
    std::_Exit(EXIT_FAILURE);
  }).detach();
}

int ShutdownSignals::Wait() {
  std::unique_lock lock(state_->mutex);
  state_->came.wait(lock, [this] { return state_->signal != 0; });
  return state_->signal;
}

}  // namespace elserve
