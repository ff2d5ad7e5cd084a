// What metrics are told of calls.
#ifndef ELSERVE_SERVER_REQUESTS_CALL_OBSERVER_H_
#define ELSERVE_SERVER_REQUESTS_CALL_OBSERVER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace elserve {

enum class Rpc {
  kSummarize,
  kStreamSummarize,
  kGenerateQuestions,
  kStreamGenerateQuestions,
  kGenerate,
  kStreamGenerate,
  kScore,
};

// "Summarize", "StreamSummarize", ...
std::string_view RpcName(Rpc rpc);
bool IsStream(Rpc rpc);

// A call that ended: answered, failed, refused or given up.
struct CallRecord {
  std::string model;  // empty: refused before a model was found
  Rpc rpc = Rpc::kGenerate;
  absl::StatusCode outcome = absl::StatusCode::kOk;
  double seconds = 0;                           // from arrival until the answer was handed to rpc/
  std::optional<double> first_token_seconds;    // streams: from arrival until the first piece was there
  std::optional<double> longest_queue_seconds;  // of its jobs
};

// Each call is reported by OnCallStarted once, then by OnCallEnded once. From any thread; must return soon.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  virtual void OnCallStarted(Rpc rpc) = 0;
  virtual void OnCallEnded(const CallRecord& record) = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CALL_OBSERVER_H_
