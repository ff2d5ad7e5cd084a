// The plan of most calls: each job is an output of the answer.
#ifndef ELSERVE_SERVER_REQUESTS_OUTPUTS_PLAN_H_
#define ELSERVE_SERVER_REQUESTS_OUTPUTS_PLAN_H_

#include <string>
#include <utility>
#include <vector>

#include "server/requests/call_plan.h"

namespace elserve {

class OutputsPlan final : public CallPlan {
 public:
  // `answers`: of questions, one for each job; else none.
  explicit OutputsPlan(std::vector<PlannedJob> jobs, std::vector<v1::Answer> answers = {})
      : first_(std::move(jobs)), outputs_(first_.size()), answers_(std::move(answers)) {}

  absl::StatusOr<std::vector<PlannedJob>> Start() override { return std::move(first_); }
  void OnText(size_t job, std::string text, std::span<const int32_t> tokens, CallEvents* events) override {
    events->AddDelta(static_cast<int>(job), text, tokens);
  }
  absl::StatusOr<std::vector<PlannedJob>> OnResult(size_t job, CallOutput output, CallEvents*) override {
    outputs_[job] = std::move(output);
    return std::vector<PlannedJob>();
  }
  CallAnswer Fold() override {
    CallAnswer answer;
    answer.outputs = std::move(outputs_);
    answer.answers = std::move(answers_);
    return answer;
  }

 private:
  std::vector<PlannedJob> first_;
  std::vector<CallOutput> outputs_;
  std::vector<v1::Answer> answers_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_OUTPUTS_PLAN_H_
