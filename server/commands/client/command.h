// What summarize and questions have in common: inputs, requests in flight, output in order.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_COMMAND_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_COMMAND_H_

#include <chrono>
#include <functional>
#include <string>

#include "server/commands/client/in_order.h"
#include "server/commands/client/inputs.h"
#include "server/commands/client/request_options.h"

namespace elserve {

// Runs `work` for every input and prints what it returns: errors on standard error, "FILE: CODE: message". With
// --stream the inputs run one after the other and `work` may print by itself. With --lines a failed line leaves an
// empty line, so that output and input keep in step. The exit code: 0, or 1 if any failed.
int RunForInputs(const RequestOptions& options, const std::function<Output(const Input&)>& work);

// Whether answers are printed with the name of their input.
bool PrintsNames(const RequestOptions& options);

double SecondsSince(std::chrono::steady_clock::time_point start);

// For --lines: a text of several lines as one.
std::string OneLine(std::string text);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_COMMAND_H_
