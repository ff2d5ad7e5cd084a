// elserve summarize: summarizes texts.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_SUMMARIZE_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_SUMMARIZE_H_

#include <CLI/App.hpp>
#include <functional>

namespace elserve {

// Adds the subcommand; parsing sets `run` where it was named.
void AddSummarize(CLI::App& app, std::function<int()>* run);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_SUMMARIZE_H_
