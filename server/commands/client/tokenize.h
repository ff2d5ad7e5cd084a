// elserve tokenize: shows the tokens of texts, to count them before they are sent.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_TOKENIZE_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_TOKENIZE_H_

#include <CLI/App.hpp>
#include <functional>

namespace elserve {

// Adds the subcommand; parsing sets `run` where it was named.
void AddTokenize(CLI::App& app, std::function<int()>* run);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_TOKENIZE_H_
