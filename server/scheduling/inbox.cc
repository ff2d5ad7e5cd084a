#include "server/scheduling/inbox.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace elserve {

absl::Status Inbox::Push(Submission submission) {
  {
    std::lock_guard lock(mutex_);
    if (!closed_.ok()) return closed_;
    if (mail_.submissions.size() + taken_ >= max_queued_) {
      return absl::ResourceExhaustedError(absl::StrCat("the queue is full: max_queued_requests is ", max_queued_,
                                                       ", and so many wait; try again later"));
    }
    mail_.submissions.push_back(std::move(submission));
  }
  wake_.notify_one();
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

}  // namespace elserve
