#include "server/requests/call_deadline.h"

#include <algorithm>
#include <chrono>

namespace elserve {
namespace {

using std::chrono::nanoseconds;

constexpr nanoseconds kLeastMargin = std::chrono::milliseconds(50);
constexpr int kMarginShare = 20;

// How much earlier than here the deadline may pass at the client: it travels as the time that is left, which gRPC
// rounds up by as much as 1 %, and on a busy machine it is read late.
nanoseconds Margin(const CallOrigin& origin) {
  const nanoseconds given = std::max<nanoseconds>(*origin.deadline - origin.arrived, nanoseconds(0));
  return std::min(given / 2, std::max(given / kMarginShare, kLeastMargin));
}

}  // namespace

bool ClientDeadlinePassed(const CallOrigin& origin, TimePoint now, std::optional<TimePoint> cancelled) {
  if (!origin.deadline) return false;
  return cancelled ? *cancelled >= *origin.deadline - Margin(origin) : now >= *origin.deadline;
}

}  // namespace elserve
