#include "server/scheduling/inbox.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace elserve {

absl::Status Inbox::Submit(const std::vector<std::shared_ptr<Job>>& jobs) {
  const TimePoint submitted = std::chrono::steady_clock::now();
  // Cancel reaches the inbox from here on; a cancellation before this is seen by the flag.
  for (const std::shared_ptr<Job>& job : jobs) job->Attach(shared_from_this());
  const absl::Status status = Push(jobs, submitted);
  if (status.ok()) {
    wake_.notify_one();
  } else {
    for (const std::shared_ptr<Job>& job : jobs) job->Abandon();
  }
  return status;
}

// Under one lock, so that Close ends the use of the engine.
absl::Status Inbox::Push(const std::vector<std::shared_ptr<Job>>& jobs, TimePoint submitted) {
  std::vector<Submission> submissions;
  std::lock_guard lock(mutex_);
  if (!closed_.ok()) return closed_;
  for (const std::shared_ptr<Job>& job : jobs) {
    if (job->cancelled()) return absl::CancelledError("the request was cancelled");
    const absl::StatusOr<Resources> resources =
        engine_->Measure({.source_tokens = static_cast<int>(job->source().size()), .decoding = &job->decoding()});
    if (!resources.ok()) return resources.status();
    submissions.push_back({.job = job, .resources = *resources, .submitted = submitted});
  }
  if (jobs.size() > max_queued_) {
    return absl::InvalidArgumentError(absl::StrCat("the request has ", jobs.size(), " jobs; allowed are at most ",
                                                   max_queued_, " (max_queued_requests)"));
  }
  const size_t waiting = mail_.submissions.size() + taken_;
  if (waiting + jobs.size() > max_queued_) {
    rejected_ += static_cast<int64_t>(jobs.size());
    return absl::ResourceExhaustedError(absl::StrCat("the queue has no room for ", jobs.size(),
                                                     " more: max_queued_requests is ", max_queued_, ", and ", waiting,
                                                     " wait; try again later"));
  }
  std::move(submissions.begin(), submissions.end(), std::back_inserter(mail_.submissions));
  return absl::OkStatus();
}

void Inbox::PushCancel(SequenceId id) {
  {
    std::lock_guard lock(mutex_);
    mail_.cancelled.push_back(id);
  }
  wake_.notify_one();
}

void Inbox::Close(absl::Status status) {
  std::lock_guard lock(mutex_);
  if (closed_.ok()) closed_ = std::move(status);
}

void Inbox::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_one();
}

void Inbox::Take(bool wait, Mail* mail) {
  mail->submissions.clear();
  mail->cancelled.clear();
  std::unique_lock lock(mutex_);
  if (wait) wake_.wait(lock, [this] { return woken_ || !mail_.submissions.empty() || !mail_.cancelled.empty(); });
  woken_ = false;
  std::swap(*mail, mail_);
  taken_ += mail->submissions.size();
}

void Inbox::SetTakenAndQueued(size_t queued) {
  std::lock_guard lock(mutex_);
  taken_ = queued;
}

size_t Inbox::queued() const {
  std::lock_guard lock(mutex_);
  return mail_.submissions.size() + taken_;
}

int64_t Inbox::rejected() const {
  std::lock_guard lock(mutex_);
  return rejected_;
}

}  // namespace elserve
