#include "server/scheduling/inbox.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace elserve {

absl::Status Inbox::Push(std::vector<Submission> submissions) {
  if (submissions.size() > max_queued_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the request has ", submissions.size(), " jobs; allowed are at most ", max_queued_, " (max_queued_requests)"));
  }
  {
    std::lock_guard lock(mutex_);
    if (!closed_.ok()) return closed_;
    const size_t waiting = mail_.submissions.size() + taken_;
    if (waiting + submissions.size() > max_queued_) {
      return absl::ResourceExhaustedError(absl::StrCat("the queue has no room for ", submissions.size(),
                                                       " more: max_queued_requests is ", max_queued_, ", and ", waiting,
                                                       " wait; try again later"));
    }
    std::move(submissions.begin(), submissions.end(), std::back_inserter(mail_.submissions));
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
