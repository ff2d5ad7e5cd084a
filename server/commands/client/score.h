// elserve score: what a model thinks of texts that are given.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_SCORE_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_SCORE_H_

#include <CLI/App.hpp>
#include <functional>

namespace elserve {

// As AddSummarize.
void AddScore(CLI::App& app, std::function<int()>* run);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_SCORE_H_
