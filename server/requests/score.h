// Score: a job for each target, which the decoder is fed.
#ifndef ELSERVE_SERVER_REQUESTS_SCORE_H_
#define ELSERVE_SERVER_REQUESTS_SCORE_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "server/requests/call_plan.h"
#include "server/requests/generation_request.h"
#include "server/requests/served_model.h"

namespace elserve {

// At most this many targets in one request.
inline constexpr size_t kMaxTargets = 256;

// Sources are made as Generate makes them, parameters are the model's defaults.
absl::StatusOr<std::vector<PlannedJob>> ScoreJobs(const ServedModel& model, const GenerationRequest& request);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_SCORE_H_
