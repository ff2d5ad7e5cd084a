#include "server/commands/serve.h"

#include <spdlog/spdlog.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "server/commands/logging.h"
#include "server/commands/server_process.h"
#include "server/commands/shutdown_signals.h"
#include "server/config/config.h"

namespace elserve {
namespace {

// Whole or not at all: who waits for the file must not read half a number.
absl::Status WritePorts(const std::string& path, int port, int ops_port) {
  const std::string draft = path + ".new";
  {
    std::ofstream file(draft);
    file << port << "\n";
    if (ops_port != 0) file << ops_port << "\n";
    file.close();
    if (!file) return absl::UnavailableError(absl::StrCat("--port-file: cannot write ", draft));
  }
  std::error_code error;
  std::filesystem::rename(draft, path, error);
  if (error) return absl::UnavailableError(absl::StrCat("--port-file: cannot write ", path, ": ", error.message()));
  return absl::OkStatus();
}

int Failed(const absl::Status& status) {
  std::cerr << "elserve: " << std::string(status.message()) << "\n";
  return EXIT_FAILURE;
}

}  // namespace

int RunServe(const ServeOptions& options) {
  ShutdownSignals signals;
  absl::StatusOr<ServerConfig> config = LoadServerConfig(options.config);
  if (!config.ok()) return Failed(config.status());
  if (!options.listen.empty()) config->listen = options.listen;
  if (!options.ops_listen.empty()) config->ops_listen = options.ops_listen;
  for (ServedModelConfig& model : config->models) model.admit_only_when_idle = options.static_batching;
  SetUpLogging(config->logging);

  absl::StatusOr<std::unique_ptr<ServerProcess>> process = ServerProcess::Start(*config, Engine::Load);
  if (!process.ok()) return Failed(process.status());
  // The line in the log comes last: who reads it finds the file.
  if (!options.port_file.empty()) {
    const absl::Status written = WritePorts(options.port_file, (*process)->port(), (*process)->ops_port());
    if (!written.ok()) return Failed(written);
  }
  spdlog::info("serving listen={} port={} ops_port={}", config->listen, (*process)->port(), (*process)->ops_port());

  const int signal = signals.Wait();
  spdlog::info("signal={} draining: at most {} s for what runs; a second signal ends at once", strsignal(signal),
               config->drain_seconds);
  (*process)->Drain();
  process->reset();
  spdlog::info("stopped");
  return EXIT_SUCCESS;
}

int RunCheckConfig(const std::string& path) {
  const absl::StatusOr<ServerConfig> config = LoadServerConfig(path);
  if (!config.ok()) return Failed(config.status());
  std::cout << path << ": ok\n";
  for (const ServedModelConfig& model : config->models) std::cout << "  " << model.name << ": " << model.path << "\n";
  return EXIT_SUCCESS;
}

}  // namespace elserve
