#include "server/commands/client/progress.h"

#include <unistd.h>

#include <cstdio>

#include "server/commands/client/command.h"

namespace elserve {
namespace {

constexpr char kClearLine[] = "\r\033[K";

}  // namespace

Progress::Progress(const RequestOptions& options, const Input& input)
    : name_(options.files.size() > 1 ? input.name + ": " : ""),
      shows_(options.progress || (isatty(STDERR_FILENO) != 0 && !options.stream)),
      overwrites_(isatty(STDERR_FILENO) != 0 && options.files.size() <= 1 && !options.lines && !options.stream) {}

Progress::~Progress() {
  if (shows_ && overwrites_) std::fputs(kClearLine, stderr);
}

void Progress::Show(const v1::Part& part) {
  if (!shows_) return;
  // One call: other inputs write as well.
  std::fprintf(stderr, "%s%sround %d, part %d of %d, %.1f s%s", overwrites_ ? kClearLine : "", name_.c_str(),
               part.round(), part.index() + 1, part.count(), SecondsSince(start_), overwrites_ ? "" : "\n");
}

}  // namespace elserve
