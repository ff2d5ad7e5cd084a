#include "server/commands/command_line.h"

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>

#include "server/commands/client/models.h"
#include "server/commands/client/questions.h"
#include "server/commands/client/score.h"
#include "server/commands/client/summarize.h"
#include "server/commands/client/tokenize.h"
#include "server/commands/serve.h"

namespace elserve {
namespace {

constexpr int kBadCommandLine = 2;

void AddServe(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* serve = app.add_subcommand("serve", "Serve the models of a configuration file over gRPC");
  serve->add_option("--config", options->config, "YAML file")->required();
  serve->add_option("--listen", options->listen, "HOST:PORT instead of the file's server.listen; port 0: any free one");
  serve->add_option("--ops-listen", options->ops_listen,
                    "The same instead of server.ops_listen: /metrics and /healthz");
  serve->add_option("--port-file", options->port_file,
                    "Write the gRPC port to this file once it serves, and the port of /metrics on a second line");
  serve->callback([=] { *run = [options] { return RunServe(*options); }; });
}

void AddCheckConfig(CLI::App& app, std::function<int()>* run) {
  auto path = std::make_shared<std::string>();
  CLI::App* check = app.add_subcommand("check-config", "Check a configuration file without loading a model");
  check->add_option("FILE", *path, "YAML file")->required();
  check->callback([=] { *run = [path] { return RunCheckConfig(*path); }; });
}

}  // namespace

int RunCommandLine(int argc, char** argv) {
  CLI::App app("Serves encoder-decoder models: summaries and questions over gRPC", "elserve");
  app.require_subcommand(1);
  std::function<int()> run;
  AddServe(app, &run);
  AddCheckConfig(app, &run);
  AddSummarize(app, &run);
  AddQuestions(app, &run);
  AddModels(app, &run);
  AddScore(app, &run);
  AddTokenize(app, &run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kBadCommandLine;
  }
  return run();
}

}  // namespace elserve
