// Many requests at once, their output in the order of the input.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_IN_ORDER_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_IN_ORDER_H_

#include <functional>
#include <optional>
#include <string>

#include "server/commands/client/inputs.h"

namespace elserve {

// What one text came to.
struct Output {
  std::string out;    // for standard output
  std::string error;  // for standard error; not empty: it failed
};

// Calls `work` for each input on `concurrency` threads and `print` for each output, one at a time and in the order of
// the inputs, as soon as all before it are printed. Reads at most a few inputs per thread ahead of what is printed.
// Returns how many failed.
int RunInOrder(const std::function<std::optional<Input>()>& next, int concurrency,
               const std::function<Output(const Input&)>& work, const std::function<void(const Output&)>& print);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_IN_ORDER_H_
