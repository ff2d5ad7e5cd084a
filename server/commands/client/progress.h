// How far a request is whose answer comes in parts.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_PROGRESS_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_PROGRESS_H_

#include <chrono>
#include <string>

#include "proto/elserve/v1/elserve.pb.h"
#include "server/commands/client/inputs.h"
#include "server/commands/client/request_options.h"

namespace elserve {

// Lines on standard error; on a terminal, where there is one input, one line that is written over and goes at the end,
// unless the answer itself is being written there.
class Progress {
 public:
  // Shows nothing unless standard error is a terminal and nothing is streamed, or the options ask for it.
  Progress(const RequestOptions& options, const Input& input);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // A part that is complete.
  void Show(const v1::Part& part);

 private:
  const std::string name_;  // of the input, where there are several
  const bool shows_, overwrites_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_PROGRESS_H_
