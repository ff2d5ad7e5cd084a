// Where other threads leave jobs and cancellations for the loop, and how they wake it.
#ifndef ELSERVE_SERVER_SCHEDULING_INBOX_H_
#define ELSERVE_SERVER_SCHEDULING_INBOX_H_

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "server/scheduling/job.h"
#include "server/scheduling/scheduler.h"

namespace elserve {

// Bounded, many producers, one consumer. Nobody waits for room: a full inbox says so at once.
class Inbox {
 public:
  struct Mail {
    std::vector<Submission> submissions;  // in order of arrival
    std::vector<SequenceId> cancelled;    // perhaps of jobs that ended long ago, or that come with a later Mail
  };

  // max_queued bounds the jobs that wait here and those that the consumer took and did not admit yet, together.
  explicit Inbox(size_t max_queued) : max_queued_(max_queued) {}

  // All or none. RESOURCE_EXHAUSTED names the limit, INVALID_ARGUMENT says that so many never fit; after Close, its
  // status.
  absl::Status Push(std::vector<Submission> submissions);
  void PushCancel(SequenceId id);
  // From now on Push answers `status`; the first call counts. What is here already stays for Take.
  void Close(absl::Status status);
  // Wakes the consumer though there is no mail.
  void Wake();

  // The consumer's. Overwrites `mail` with all that came. With `wait` it sleeps until something came or Wake was called
  // since the last Take.
  void Take(bool wait, Mail* mail);
  // How many of the jobs taken so far still wait for admission.
  void SetTakenAndQueued(size_t queued);

  size_t queued() const;  // here and with the consumer

 private:
  const size_t max_queued_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_.
  Mail mail_;
  bool woken_ = false;
  size_t taken_ = 0;     // with the consumer, not yet admitted
  absl::Status closed_;  // OK: open
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_INBOX_H_
