// What a stream's client is still to be told.
#ifndef ELSERVE_SERVER_REQUESTS_CALL_EVENTS_H_
#define ELSERVE_SERVER_REQUESTS_CALL_EVENTS_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "proto/elserve/v1/elserve.pb.h"

namespace elserve {

// New text of one of the answer's outputs that nothing will take back.
struct CallDelta {
  int output = 0;
  std::string text;
  std::vector<int32_t> tokens;
};

// A part of the answer that is complete.
using CallEvent = std::variant<CallDelta, v1::Part>;

// In the order in which they came, but that a delta joins an earlier one of its output that waits: so a reader who is
// slow, or never reads, keeps no more than the answer's text and parts, and no output waits for another. Thread-safe.
class CallEvents {
 public:
  void AddDelta(int output, std::string_view text, std::span<const int32_t> tokens);
  void AddPart(v1::Part part);
  // nullopt: nothing now.
  std::optional<CallEvent> Take();
  // There was some, taken or not.
  bool any() const { return any_; }

 private:
  std::atomic<bool> any_{false};
  std::mutex mutex_;
  // Guarded by mutex_.
  std::list<CallEvent> waiting_;
  absl::flat_hash_map<int, CallDelta*> deltas_;  // of waiting_, by output
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CALL_EVENTS_H_
