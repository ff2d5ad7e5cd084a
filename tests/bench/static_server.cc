// A server like `elserve serve` but for one thing: it batches statically. A batch is admitted when the one before has
// ended. See README.md here.
#include "CLI/CLI.hpp"
#include "server/commands/serve.h"

int main(int argc, char** argv) {
  elserve::ServeOptions options;
  options.static_batching = true;
  CLI::App app("Serves a configuration with static batching, to compare with");
  app.add_option("--config", options.config, "YAML file")->required();
  app.add_option("--port-file", options.port_file, "gets the port of gRPC, and on a second line that of /metrics");
  CLI11_PARSE(app, argc, argv);
  return elserve::RunServe(options);
}
