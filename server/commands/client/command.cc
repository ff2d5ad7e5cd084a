#include "server/commands/client/command.h"

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>

namespace elserve {

int RunForInputs(const RequestOptions& options, const std::function<Output(const Input&)>& work) {
  // Text that is not UTF-8 is answered by the server; protobuf would say it a second time, less clearly.
  google::protobuf::SetLogHandler(nullptr);
  InputReader reader(options.files, options.lines, std::cin);
  const int failed = RunInOrder([&reader] { return reader.Next(); }, options.stream ? 1 : options.concurrency, work,
                                [&options](const Output& output) {
                                  std::cout << output.out;
                                  if (!output.error.empty()) {
                                    if (options.lines && !options.json) std::cout << "\n";
                                    std::cerr << "elserve: " << output.error << "\n";
                                  }
                                  std::cout.flush();
                                });
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

bool PrintsNames(const RequestOptions& options) { return !options.lines && options.files.size() > 1; }

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string OneLine(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace elserve
