#include "server/requests/call_deadline.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_format.h"

namespace elserve {
namespace {

using std::chrono::duration;
using std::chrono::nanoseconds;

constexpr nanoseconds kLeastMargin = std::chrono::milliseconds(50);
constexpr int kMarginShare = 20;

// How much earlier than here the deadline may pass at the client: it travels as the time that is left, which gRPC
// rounds up by as much as 1 %, and on a busy machine it is read late.
nanoseconds Margin(const CallOrigin& origin) {
  const nanoseconds given = std::max<nanoseconds>(*origin.deadline - origin.arrived, nanoseconds(0));
  return std::min(given / 2, std::max(given / kMarginShare, kLeastMargin));
}

JobDeadline MaxTime(double seconds, TimePoint arrived) {
  return {.at = arrived + std::chrono::duration_cast<nanoseconds>(duration<double>(seconds)),
          .end = EndKind::kFinish,
          .name = absl::StrFormat("max_time, %g s,", seconds)};
}

}  // namespace

std::optional<JobDeadline> DeadlineOfJobs(const PreparedCall& call, const CallOrigin& origin) {
  std::optional<JobDeadline> first;
  if (origin.deadline) first = {.at = *origin.deadline, .end = EndKind::kDiscard};
  if (!call.effective.has_max_time()) return first;
  JobDeadline max_time = MaxTime(call.effective.max_time(), origin.arrived);
  return first && first->at <= max_time.at ? first : max_time;
}

bool ClientDeadlinePassed(const CallOrigin& origin, TimePoint now, std::optional<TimePoint> cancelled) {
  if (!origin.deadline) return false;
  return cancelled ? *cancelled >= *origin.deadline - Margin(origin) : now >= *origin.deadline;
}

}  // namespace elserve
