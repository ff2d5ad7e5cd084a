// elserve serve, elserve check-config.
#ifndef ELSERVE_SERVER_COMMANDS_SERVE_H_
#define ELSERVE_SERVER_COMMANDS_SERVE_H_

#include <string>

namespace elserve {

struct ServeOptions {
  std::string config;      // a YAML file
  std::string listen;      // instead of the file's; empty: the file's
  std::string ops_listen;  // likewise
  std::string port_file;   // gets the port of gRPC, and on a second line that of /metrics; empty: none
  // Every model batches statically (SchedulerOptions::admit_only_when_idle). No flag sets it: it is for the server that
  // tests/bench compares with.
  bool static_batching = false;
};

// Serves until SIGTERM or SIGINT, then drains. The exit code: 0 after a drain, 1 if it could not start.
int RunServe(const ServeOptions& options);

// Checks the file as serve would before it loads a model. The exit code: 0, or 1 with the error on standard error.
int RunCheckConfig(const std::string& path);

}  // namespace elserve

#endif  // ELSERVE_SERVER_COMMANDS_SERVE_H_
