#include "server/requests/call_deadline.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_format.h"

namespace elserve {
namespace {

using std::chrono::duration;
using std::chrono::nanoseconds;

constexpr nanoseconds kLeastMargin = std::chrono::milliseconds(100);
constexpr int kMarginShare = 50;

// What an answer needs before the deadline, and how much earlier than here the deadline may pass at the client.
//
// The share is for what grows with the time given: a client's deadline travels as the time that is left, which gRPC
// rounds up by as much as 1 %; and who gives much time has long answers, whose steps and texts take longer. The least
// margin is for the way, here and back. It never takes more than half, so that BEST_SO_FAR leaves short calls time to
// work in.
nanoseconds Margin(const CallOrigin& origin) {
  const nanoseconds given = std::max<nanoseconds>(*origin.deadline - origin.arrived, nanoseconds(0));
  return std::min(given / 2, given / kMarginShare + kLeastMargin);
}

JobDeadline ClientDeadline(const CallOrigin& origin, bool best_so_far) {
  if (!best_so_far) return {.at = *origin.deadline, .end = EndKind::kDiscard};
  const nanoseconds margin = Margin(origin);
  return {.at = *origin.deadline - margin,
          .end = EndKind::kFinish,
          .name = absl::StrFormat("the deadline, less %.3f s for the answer's way back,",
                                  duration<double>(margin).count())};
}

JobDeadline MaxTime(double seconds, TimePoint arrived) {
  return {.at = arrived + std::chrono::duration_cast<nanoseconds>(duration<double>(seconds)),
          .end = EndKind::kFinish,
          .name = absl::StrFormat("max_time, %g s,", seconds)};
}

}  // namespace

std::optional<JobDeadline> DeadlineOfJobs(const PreparedCall& call, const CallOrigin& origin) {
  std::optional<JobDeadline> first;
  if (origin.deadline) first = ClientDeadline(origin, call.best_so_far);
  if (call.effective.max_time() <= 0) return first;  // off
  JobDeadline max_time = MaxTime(call.effective.max_time(), origin.arrived);
  return first && first->at <= max_time.at ? first : max_time;
}

bool ClientDeadlinePassed(const CallOrigin& origin, TimePoint now, std::optional<TimePoint> cancelled) {
  if (!origin.deadline) return false;
  return cancelled ? *cancelled >= *origin.deadline - Margin(origin) : now >= *origin.deadline;
}

}  // namespace elserve
