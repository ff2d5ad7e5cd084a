// When a call's time is over.
#ifndef ELSERVE_SERVER_REQUESTS_CALL_DEADLINE_H_
#define ELSERVE_SERVER_REQUESTS_CALL_DEADLINE_H_

#include <optional>

#include "server/requests/generation_request.h"
#include "server/requests/prepare.h"
#include "server/scheduling/job.h"

namespace elserve {

// Of all jobs of the call: max_time's or the client's, whichever comes first; nullopt: neither is set.
std::optional<JobDeadline> DeadlineOfJobs(const PreparedCall& call, const CallOrigin& origin);

// Whether the client has DEADLINE_EXCEEDED by `now`, whatever the call comes to: its deadline passed, or was what
// cancelled the call. gRPC cancels a call for that as it does for a client that goes away, and does not say which.
bool ClientDeadlinePassed(const CallOrigin& origin, TimePoint now, std::optional<TimePoint> cancelled);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CALL_DEADLINE_H_
