#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "tests/e2e/server_under_test.h"

namespace elserve {
namespace {

struct Pipe {
  int read = -1, write = -1;
};

Pipe MakePipe() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  return {ends[0], ends[1]};
}

void WriteAll(int descriptor, const std::string& text) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = write(descriptor, text.data() + written, text.size() - written);
    if (count <= 0) break;
    written += static_cast<size_t>(count);
  }
  close(descriptor);
}

}  // namespace

Process::Process(std::vector<std::string> arguments, const std::string& standard_input) {
  arguments.insert(arguments.begin(), ELSERVE_BINARY);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const Pipe in = MakePipe(), out = MakePipe(), err = MakePipe();
  pid_ = fork();
  if (pid_ == 0) {
    dup2(in.read, STDIN_FILENO);
    dup2(out.write, STDOUT_FILENO);
    dup2(err.write, STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  EXPECT_GT(pid_, 0);
  close(in.read);
  close(out.write);
  close(err.write);
  reader_ = std::thread([this, out = out.read, err = err.read] { Read(out, err); });
  WriteAll(in.write, standard_input);
}

Process::~Process() {
  if (!exit_code_) {
    Signal(SIGKILL);
    Wait();
  }
  reader_.join();
}

void Process::Signal(int number) const { kill(pid_, number); }

std::optional<int> Process::Wait(std::chrono::seconds timeout) {
  if (exit_code_) return exit_code_;
  const int descriptor = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  EXPECT_GE(descriptor, 0);
  pollfd ended{.fd = descriptor, .events = POLLIN, .revents = 0};
  const int ready = poll(&ended, 1, static_cast<int>(std::chrono::milliseconds(timeout).count()));
  close(descriptor);
  if (ready != 1) return std::nullopt;
  int status = 0;
  waitpid(pid_, &status, 0);
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  // What it wrote last may still be in the pipes.
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_; });
  return exit_code_;
}

bool Process::WaitForOutput(const std::string& text, std::chrono::seconds timeout) {
  std::unique_lock lock(mutex_);
  const auto found = [&] { return output_.find(text) != std::string::npos || error_.find(text) != std::string::npos; };
  changed_.wait_for(lock, timeout, [&] { return found() || closed_; });
  return found();
}

std::string Process::output() const {
  const std::lock_guard lock(mutex_);
  return output_;
}

std::string Process::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

void Process::Read(int out, int err) {
  std::array<pollfd, 2> open{pollfd{.fd = out, .events = POLLIN, .revents = 0},
                             pollfd{.fd = err, .events = POLLIN, .revents = 0}};
  while (open[0].fd >= 0 || open[1].fd >= 0) {
    if (poll(open.data(), open.size(), -1) < 0) continue;
    for (size_t i = 0; i < open.size(); ++i) {
      if (open[i].fd < 0 || open[i].revents == 0) continue;
      std::array<char, 4096> buffer;
      const ssize_t count = read(open[i].fd, buffer.data(), buffer.size());
      const std::lock_guard lock(mutex_);
      if (count > 0) {
        (i == 0 ? output_ : error_).append(buffer.data(), static_cast<size_t>(count));
      } else {
        close(open[i].fd);
        open[i].fd = -1;
      }
      changed_.notify_all();
    }
  }
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

}  // namespace elserve
