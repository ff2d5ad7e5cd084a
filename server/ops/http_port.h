// The operator's HTTP port: /metrics and /healthz.
#ifndef ELSERVE_SERVER_OPS_HTTP_PORT_H_
#define ELSERVE_SERVER_OPS_HTTP_PORT_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace elserve {

struct HttpPortOptions {
  std::string listen;  // "HOST:PORT", "[IPV6]:PORT"; port 0: any free one
  // The body of /metrics in Prometheus' text format. Called on the port's own threads.
  std::function<std::string()> metrics;
  // Empty: /healthz answers 200 "ok". Else 503 with this reason. Called on the port's own threads.
  std::function<std::string()> unhealthy_reason;
};

// Serves from Start until it is destroyed, on a few threads of its own; nothing that a client does here can reach the
// threads that serve requests. Only GET and HEAD of the two paths are known; everything else is 404.
class HttpPort {
 public:
  // INVALID_ARGUMENT for an address that is none, UNAVAILABLE where the port cannot be had; both name it.
  static absl::StatusOr<std::unique_ptr<HttpPort>> Start(HttpPortOptions options);
  ~HttpPort();
  HttpPort(const HttpPort&) = delete;
  HttpPort& operator=(const HttpPort&) = delete;

  int port() const;  // the one that was bound

 private:
  struct State;  // httplib stays in the .cc file
  explicit HttpPort(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_OPS_HTTP_PORT_H_
