#include "server/ops/http_port.h"

#include <httplib.h>

#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/config/address.h"

namespace elserve {
namespace {

constexpr int kThreads = 4;

}  // namespace

struct HttpPort::State {
  httplib::Server server;
  std::thread thread;
  int port = 0;
};

HttpPort::HttpPort(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpPort::~HttpPort() {
  state_->server.stop();
  state_->thread.join();
}

int HttpPort::port() const { return state_->port; }

absl::StatusOr<std::unique_ptr<HttpPort>> HttpPort::Start(HttpPortOptions options) {
  const std::optional<Address> address = ParseAddress(options.listen);
  if (!address) {
    return absl::InvalidArgumentError(
        absl::StrCat("server.ops_listen is \"", options.listen, "\"; allowed is HOST:PORT with a port of 0 to 65535"));
  }
  auto state = std::make_unique<State>();
  httplib::Server& server = state->server;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_payload_max_length(0);
  // An open connection holds a thread, and keeps stop() waiting.
  server.set_keep_alive_max_count(1);
  // httplib's own default, SO_REUSEPORT, would let a second server take the same port unseen.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  server.Get("/metrics", [metrics = std::move(options.metrics)](const httplib::Request&, httplib::Response& response) {
    response.set_content(metrics(), "text/plain; version=0.0.4; charset=utf-8");
  });
  server.Get("/healthz",
             [reason = std::move(options.unhealthy_reason)](const httplib::Request&, httplib::Response& response) {
               const std::string why = reason();
               response.status = why.empty() ? 200 : 503;
               response.set_content(why.empty() ? "ok\n" : why + "\n", "text/plain; charset=utf-8");
             });
  state->port = address->port;
  const bool bound = address->port == 0 ? (state->port = server.bind_to_any_port(address->host)) > 0
                                        : server.bind_to_port(address->host, address->port);
  if (!bound) return absl::UnavailableError(absl::StrCat("server.ops_listen: cannot listen on ", options.listen));
  state->thread = std::thread([&server] { server.listen_after_bind(); });
  // stop() is lost on a server that does not run yet.
  while (!server.is_running()) std::this_thread::yield();
  return std::unique_ptr<HttpPort>(new HttpPort(std::move(state)));
}

}  // namespace elserve
