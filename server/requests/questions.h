// GenerateQuestions, by the format of the model: a job for each answer that is asked about, or one for all questions.
#ifndef ELSERVE_SERVER_REQUESTS_QUESTIONS_H_
#define ELSERVE_SERVER_REQUESTS_QUESTIONS_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "server/requests/call_plan.h"
#include "server/requests/generation_request.h"
#include "server/requests/job_maker.h"

namespace elserve {

// At most this many answers in one request: each is a job of its own.
inline constexpr size_t kMaxAnswers = 256;
// At most this many bytes of prompts in one request: each answer's prompt holds the whole context.
inline constexpr size_t kMaxPromptBytes = size_t{64} << 20;

// The request's input is text.
absl::StatusOr<std::unique_ptr<CallPlan>> PlanQuestions(const std::shared_ptr<JobMaker>& maker,
                                                        const GenerationRequest& request);

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_QUESTIONS_H_
