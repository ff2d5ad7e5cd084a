// elserve models: shows what a server has loaded.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_MODELS_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_MODELS_H_

#include <CLI/App.hpp>
#include <functional>

namespace elserve {

// Adds the subcommand; parsing sets `run` where it was named.
void AddModels(CLI::App& app, std::function<int()>* run);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_MODELS_H_
