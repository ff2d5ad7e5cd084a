// elserve questions: asks questions about texts.
#ifndef ELSERVE_SERVER_COMMANDS_CLIENT_QUESTIONS_H_
#define ELSERVE_SERVER_COMMANDS_CLIENT_QUESTIONS_H_

#include <CLI/App.hpp>
#include <functional>

namespace elserve {

// Adds the subcommand; parsing sets `run` where it was named.
void AddQuestions(CLI::App& app, std::function<int()>* run);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_CLIENT_QUESTIONS_H_
