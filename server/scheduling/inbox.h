// The way into a loop: where other threads leave jobs and cancellations, and how they wake it.
#ifndef ELSERVE_SERVER_SCHEDULING_INBOX_H_
#define ELSERVE_SERVER_SCHEDULING_INBOX_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "server/scheduling/job.h"
#include "server/scheduling/scheduler.h"

namespace elserve {

// Bounded, many producers, one consumer. Nobody waits for room: a full inbox says so at once.
//
// This is all that a call holds of a loop. Producers share it and may outlive the loop: from CloseForGood on it refuses
// everything. So nothing that they let go of ends a loop, on whatever thread they do.
class Inbox : public std::enable_shared_from_this<Inbox> {
 public:
  struct Mail {
    std::vector<Submission> submissions;  // in order of arrival
    std::vector<SequenceId> cancelled;    // perhaps of jobs that ended long ago, or that come with a later Mail
  };

  // Who holds one may submit more: what follows from jobs that were accepted. The loop that drains waits for it.
  class Pass {
   public:
    Pass() = default;
    Pass(Pass&&) = default;
    Pass& operator=(Pass&& other) noexcept {
      Return();
      inbox_ = std::move(other.inbox_);
      return *this;
    }
    ~Pass() { Return(); }

    // As Inbox::Submit, but that there always is room, and that Close does not refuse it. Not of an empty pass.
    absl::Status Submit(const std::vector<std::shared_ptr<Job>>& jobs) const;

   private:
    friend class Inbox;
    explicit Pass(std::shared_ptr<Inbox> inbox) : inbox_(std::move(inbox)) {}
    void Return() {
      if (inbox_ != nullptr) std::exchange(inbox_, nullptr)->TakeBackPass();
    }

    std::shared_ptr<Inbox> inbox_;  // null: none
  };

  // The engine is asked what a job takes, until CloseForGood. max_queued bounds the jobs that wait here and the
  // sequences that the consumer made of others and did not admit yet, together.
  Inbox(const Engine* engine, size_t max_queued) : engine_(engine), max_queued_(max_queued) {}

  // Takes all jobs or none. Never waits. Once it returned OK, the jobs' sinks hear of them, and `pass` was filled
  // before they do. Otherwise no sink is called and the jobs let go of them. INVALID_ARGUMENT: a sequence can never
  // fit, or they are more than may wait, and why; RESOURCE_EXHAUSTED: too many jobs wait; CANCELLED: a job was
  // cancelled before; after Close, its status. A job is submitted once.
  absl::Status Submit(const std::vector<std::shared_ptr<Job>>& jobs, Pass* pass = nullptr);
  void PushCancel(SequenceId id);
  // From now on Submit answers `status`; the first call counts. What is here already stays for Take.
  void Close(absl::Status status);
  // Passes are refused as well.
  void CloseForGood(const absl::Status& status);
  // Nothing is here, and nothing can come.
  bool ended() const;
  // Wakes the consumer though there is no mail.
  void Wake();

  // The consumer's. Overwrites `mail` with all that came. Sleeps before until something came, Wake was called since the
  // last Take, or nothing more can come, but at most until `until`; nullopt: as long as it takes.
  void Take(std::optional<TimePoint> until, Mail* mail);
  // How many sequences of the jobs taken so far still wait for admission.
  void SetTakenAndQueued(size_t queued);

  size_t queued() const;     // here and with the consumer
  int64_t rejected() const;  // jobs that Submit answered with RESOURCE_EXHAUSTED

 private:
  // `more`: they follow from others.
  absl::Status Push(const std::vector<std::shared_ptr<Job>>& jobs, bool more, Pass* pass);
  void TakeBackPass();
  // mutex_ held:
  absl::Status Accept(const std::vector<std::shared_ptr<Job>>& jobs, bool more, TimePoint submitted);
  absl::Status CheckRoom(size_t jobs);
  bool NothingCanCome() const;

  const Engine* const engine_;
  const size_t max_queued_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // Guarded by mutex_.
  Mail mail_;
  bool woken_ = false;
  size_t taken_ = 0;  // with the consumer, not yet admitted
  int64_t rejected_ = 0;
  int passes_ = 0;                // given out
  absl::Status closed_;           // OK: open
  absl::Status closed_for_good_;  // likewise
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_INBOX_H_
