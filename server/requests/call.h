// One request on its way through the engine: its jobs, what they report, and the one answer that they make.
#ifndef ELSERVE_SERVER_REQUESTS_CALL_H_
#define ELSERVE_SERVER_REQUESTS_CALL_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/decoding.h"
#include "server/requests/call_events.h"
#include "server/requests/call_observer.h"
#include "server/requests/call_plan.h"
#include "server/requests/executor.h"
#include "server/requests/log.h"
#include "server/requests/prepare.h"
#include "server/scheduling/inbox.h"
#include "server/scheduling/job.h"
#include "server/text/detokenizer.h"

namespace elserve {

// Who waits for a call. Its methods are called on the executor's threads, one after the other, and must return soon.
class CallListener {
 public:
  virtual ~CallListener() = default;
  // Streams: TakeEvent has something to give.
  virtual void OnEvents() = 0;
  // The last word, exactly once. What TakeEvent still holds belongs before it. A stream's deltas join to text and
  // token_ids of the first hypothesis of their output.
  virtual void OnAnswer(absl::StatusOr<CallAnswer> answer) = 0;
};

// Submits the jobs of its plan, turns their tokens into text on the executor, and submits what follows from them, until
// the plan folds all into one answer. The first job that fails fails the call and cancels the other jobs. Thread-safe.
class Call : public std::enable_shared_from_this<Call> {
 public:
  // `executor` and `observer` must outlive the call; the observer has been told of its start.
  Call(PreparedCall prepared, const CallOrigin& origin, std::shared_ptr<CallListener> listener, Executor* executor,
       CallObserver* observer);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Once. The listener hears of everything from here on, refusals of the model's queue included.
  void Start();
  // The client waits no longer: ends the call with CANCELLED, or DEADLINE_EXCEEDED where its deadline is the reason;
  // nothing if it is done. From any thread, at any time, also before Start.
  void Cancel();
  // Streams: what the client is to be told next; nullopt: nothing now.
  std::optional<CallEvent> TakeEvent() { return events_.Take(); }

  const std::string& request_id() const { return prepared_.request_id; }

 private:
  class Sink;
  // One job's side of the call.
  struct Part {
    Part(size_t number, const Tokenizer& tokenizer) : index(number), detokenizer(tokenizer.NewDetokenizer()) {}
    const size_t index;        // the plan's number
    std::shared_ptr<Job> job;  // guarded by mutex_; null: it has ended
    int source_tokens = 0;
    bool truncated = false;

    // Guarded by mutex_: what the engine's thread left.
    std::vector<int32_t> incoming;
    std::optional<JobResult> result;

    // The task's alone.
    Detokenizer detokenizer;
    std::vector<int32_t> streamed;  // tokens given out
    bool ended = false;
  };

  // The engine's thread.
  void AddTokens(Part& part, std::span<const int32_t> tokens);
  void AddResult(Part& part, JobResult result);

  // Of the first jobs, before there is a task; then the task's.
  void Submit(std::vector<PlannedJob> jobs);
  void Schedule();  // mutex_ held
  // The task: one at a time.
  void Work();
  // Takes what the engine's thread left at the part; false: nothing.
  bool Collect(Part& part, std::vector<int32_t>* tokens, std::optional<JobResult>* result);
  void End(Part& part, JobResult result);
  // Gives the plan what a job came to; returns the jobs that follow.
  absl::StatusOr<std::vector<PlannedJob>> Advance(Part& part, JobResult result);
  void CancelJobs();  // mutex_ held
  void Stream(Part& part, std::span<const int32_t> tokens, bool last);
  // Streams: there may be something to take.
  void TellEvents();
  void Fail(absl::Status error);
  void Finish();
  absl::Status FinalStatus();
  CallAnswer Fold();
  CallOutput OutputOf(const Part& part, const JobResult& result) const;
  void Report(const absl::StatusOr<CallAnswer>& answer) const;

  PreparedCall prepared_;  // Start moves the first jobs out; constant otherwise, but for the plan, which is the task's
  const CallOrigin origin_;
  const std::optional<JobDeadline> deadline_;  // of all jobs
  Executor* const executor_;
  CallObserver* const observer_;
  CallEvents events_;

  std::mutex mutex_;
  // Grows under mutex_, by one thread, which may look at it without.
  std::vector<std::unique_ptr<Part>> parts_;
  // Guarded by mutex_.
  std::optional<TimePoint> cancelled_;
  bool scheduled_ = false;  // a task is queued or runs
  size_t first_open_ = 0;   // all parts before have ended

  // The task's alone.
  std::shared_ptr<CallListener> listener_;  // null once it had the last word
  Inbox::Pass pass_;                        // of the jobs that follow from the first
  absl::Status error_;
  CallSize size_;
  std::optional<double> first_token_seconds_, longest_queue_seconds_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CALL_H_
