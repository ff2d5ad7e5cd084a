// What a stream's client is still to be told.
#ifndef ELSERVE_SERVER_REQUESTS_CALL_EVENTS_H_
#define ELSERVE_SERVER_REQUESTS_CALL_EVENTS_H_

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace elserve {

// New text of one of the answer's outputs that nothing will take back.
struct CallDelta {
  int output = 0;
  std::string text;
  std::vector<int32_t> tokens;
};

// In the order in which they came, but that deltas of one output that wait are joined: so a reader who is slow, or
// never reads, keeps one answer's worth of text and nothing more, and no output waits for another. Thread-safe.
class CallEvents {
 public:
  void AddDelta(int output, std::string_view text, std::span<const int32_t> tokens);
  // nullopt: nothing now.
  std::optional<CallDelta> Take();

 private:
  std::mutex mutex_;
  // Guarded by mutex_.
  std::list<CallDelta> waiting_;
  absl::flat_hash_map<int, std::list<CallDelta>::iterator> deltas_;  // of waiting_, by output
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CALL_EVENTS_H_
