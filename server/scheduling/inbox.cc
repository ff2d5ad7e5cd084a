#include "server/scheduling/inbox.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace elserve {

absl::Status Inbox::Submit(const std::vector<std::shared_ptr<Job>>& jobs, Pass* pass) {
  return Push(jobs, /*more=*/false, pass);
}

absl::Status Inbox::Pass::Submit(const std::vector<std::shared_ptr<Job>>& jobs) const {
  return inbox_->Push(jobs, /*more=*/true, nullptr);
}

absl::Status Inbox::Push(const std::vector<std::shared_ptr<Job>>& jobs, bool more, Pass* pass) {
  const TimePoint submitted = std::chrono::steady_clock::now();
  // Cancel reaches the inbox from here on; a cancellation before this is seen by the flag.
  for (const std::shared_ptr<Job>& job : jobs) job->Attach(shared_from_this());
  absl::Status status;
  {
    // Under one lock, so that CloseForGood ends the use of the engine.
    const std::lock_guard lock(mutex_);
    status = Accept(jobs, more, submitted);
    if (status.ok() && pass != nullptr) {
      ++passes_;
      *pass = Pass(shared_from_this());
    }
  }
  if (status.ok()) {
    wake_.notify_one();
  } else {
    for (const std::shared_ptr<Job>& job : jobs) job->Abandon();
  }
  return status;
}

absl::Status Inbox::Accept(const std::vector<std::shared_ptr<Job>>& jobs, bool more, TimePoint submitted) {
  if (const absl::Status& closed = more ? closed_for_good_ : closed_; !closed.ok()) return closed;
  std::vector<Submission> submissions;
  for (const std::shared_ptr<Job>& job : jobs) {
    if (job->cancelled()) return absl::CancelledError("the request was cancelled");
    const absl::StatusOr<Resources> resources =
        engine_->Measure({.source_tokens = static_cast<int>(job->source().size()), .decoding = &job->decoding()});
    if (!resources.ok()) return resources.status();
    submissions.push_back({.job = job, .resources = *resources, .submitted = submitted});
  }
  if (!more) {
    if (absl::Status room = CheckRoom(jobs.size()); !room.ok()) return room;
  }
  std::move(submissions.begin(), submissions.end(), std::back_inserter(mail_.submissions));
  return absl::OkStatus();
}

absl::Status Inbox::CheckRoom(size_t jobs) {
  if (jobs > max_queued_) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request has ", jobs, " jobs; allowed are at most ", max_queued_, " (max_queued_requests)"));
  }
  const size_t waiting = mail_.submissions.size() + taken_;
  if (waiting + jobs <= max_queued_) return absl::OkStatus();
  rejected_ += static_cast<int64_t>(jobs);
  return absl::ResourceExhaustedError(absl::StrCat("the queue has no room for ", jobs, " more: max_queued_requests is ",
                                                   max_queued_, ", and ", waiting, " wait; try again later"));
}

void Inbox::TakeBackPass() {
  {
    const std::lock_guard lock(mutex_);
    --passes_;
  }
  wake_.notify_one();
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

void Inbox::CloseForGood(const absl::Status& status) {
  std::lock_guard lock(mutex_);
  if (closed_.ok()) closed_ = status;
  if (closed_for_good_.ok()) closed_for_good_ = status;
}

bool Inbox::ended() const {
  std::lock_guard lock(mutex_);
  return mail_.submissions.empty() && NothingCanCome();
}

bool Inbox::NothingCanCome() const { return !closed_for_good_.ok() || (!closed_.ok() && passes_ == 0); }

void Inbox::Wake() {
  {
    std::lock_guard lock(mutex_);
    woken_ = true;
  }
  wake_.notify_one();
}

void Inbox::Take(std::optional<TimePoint> until, Mail* mail) {
  mail->submissions.clear();
  mail->cancelled.clear();
  const auto news = [this] {
    return woken_ || !mail_.submissions.empty() || !mail_.cancelled.empty() || NothingCanCome();
  };
  std::unique_lock lock(mutex_);
  if (!until) {
    wake_.wait(lock, news);
  } else if (*until > std::chrono::steady_clock::now()) {
    wake_.wait_until(lock, *until, news);
  }
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
