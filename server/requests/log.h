// The log lines about calls: key=value pairs, request_id first.
#ifndef ELSERVE_SERVER_REQUESTS_LOG_H_
#define ELSERVE_SERVER_REQUESTS_LOG_H_

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"
#include "server/requests/call_observer.h"

namespace elserve {

struct CallSize {
  size_t jobs = 0;
  int source_tokens = 0;
  int generated_tokens = 0;
};

// level debug: a call was taken in.
void LogCallStart(std::string_view request_id, Rpc rpc, std::string_view model, const CallSize& size);
// level info, or error where the server itself is at fault (INTERNAL).
void LogCallEnd(std::string_view request_id, const CallRecord& record, const absl::Status& status,
                const CallSize& size);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_LOG_H_
