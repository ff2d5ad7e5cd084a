// One sequence's way through scheduling: what is asked (JobSpec), who is told (ResponseSink), what came of it
// (JobResult).
#ifndef ELSERVE_SERVER_SCHEDULING_JOB_H_
#define ELSERVE_SERVER_SCHEDULING_JOB_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/decoding.h"
#include "engine/engine.h"
#include "server/scheduling/computation.h"

namespace elserve {

using TimePoint = std::chrono::steady_clock::time_point;

// How a job came to its answer.
enum class AnsweredBy {
  kComputing,  // its own sequence in the engine; of the jobs that share one, the oldest that is still there
  kSharing,    // the sequence of an equal job that was queued or in flight when it came
  kCache,      // an equal job that ended before
};

// Of a job that was answered without computing, all its time is queue_seconds, and the rest is 0.
struct JobTimings {
  double queue_seconds = 0;   // from submission to admission, or to the end of a job that was never admitted
  double encode_seconds = 0;  // from admission until the document was encoded
  double decode_seconds = 0;  // from there to the end
  int steps = 0;              // decode steps that the sequence took part in
};

struct JobResult {
  // OK:                the hypotheses are the answer (see deadline_reached).
  // CANCELLED:         Job::Cancel.
  // DEADLINE_EXCEEDED: the deadline passed: in the queue, before decoding had anything to report, or at any time where
  //                    an answer in part is none (JobDeadline::end).
  // UNAVAILABLE:       the loop was stopped, its drain ran out of time, or its device failed while the job was queued.
  // INTERNAL:          the device failed while the job was in flight, or the sequence itself failed (non-finite
  // logits).
  absl::Status status;
  std::vector<Hypothesis> hypotheses;  // best first; empty unless the status is OK
  // The deadline passed while decoding, and ended it: `hypotheses` (at least one) is what existed by then, and a
  // hypothesis that reports FinishReason::kLength was cut by the deadline.
  bool deadline_reached = false;
  AnsweredBy answered_by = AnsweredBy::kComputing;
  JobTimings timings;
};

// Where a job's results go.
//
// All calls come from the thread that drives the engine, one after the other: OnTokens any number of times (none unless
// JobSpec::stream), then OnDone exactly once, and nothing after it. While a call runs the whole model waits, so it must
// not block, take a lock that is held for long, or do work on text: hand the values over and return. It may call
// Inbox::Submit and Job::Cancel (of its own job and of others); it must not drain, stop or own the loop.
//
// A job whose Submit returned an error is never reported to its sink.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  // Tokens that no later step takes back, following those of the calls before. The span is valid during the call.
  virtual void OnTokens(std::span<const int32_t> tokens) = 0;
  virtual void OnDone(JobResult result) = 0;
};

// When a job's time is over, and how it ends then if it is in flight: kFinish with what there is, kDiscard with
// nothing. It is looked at between steps: the end comes up to two of them later, with the one that carries it out.
struct JobDeadline {
  TimePoint at;
  EndKind end = EndKind::kDiscard;    // never kReport
  std::string name = "the deadline";  // in messages, before "passed"
};

struct JobSpec {
  std::vector<int32_t> source;  // token ids, special tokens included
  DecodingSpec decoding;
  std::string principal;                // who asked; jobs share within one alone. Empty: nobody is told apart
  bool stream = false;                  // report tokens as they become certain
  std::optional<JobDeadline> deadline;  // none: the job may take as long as it takes
  std::shared_ptr<ResponseSink> sink;
};

class Inbox;

// Shared by whoever asked (to cancel it) and the loop (until its end). A sink may hold its job: the job lets go of the
// sink when it is done, or when Submit refuses it, so nothing is kept alive by the circle.
class Job {
 public:
  explicit Job(JobSpec spec);
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  SequenceId id() const { return id_; }  // no other job of this process has it
  const std::shared_ptr<const Computation>& computation() const { return computation_; }
  const std::vector<int32_t>& source() const { return computation_->source(); }
  const DecodingSpec& decoding() const { return computation_->decoding(); }
  bool stream() const { return stream_; }
  const std::optional<JobDeadline>& deadline() const { return deadline_; }

  // Ends the job before the next step, with CANCELLED, and wakes its loop; does nothing once it is done. From any
  // thread, also before Submit (which then answers CANCELLED). Returns at once; OnDone tells when it is over.
  void Cancel();
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

  // The rest is the loop's.
  // Cancel tells `inbox` from here on.
  void Attach(std::shared_ptr<Inbox> inbox);
  void ReportTokens(std::span<const int32_t> tokens);
  void Finish(JobResult result);  // once: OnDone, then lets go of sink and inbox
  void Abandon();                 // lets go of them without a word: Submit was refused

 private:
  const SequenceId id_;
  const std::shared_ptr<const Computation> computation_;
  const bool stream_;
  const std::optional<JobDeadline> deadline_;
  std::shared_ptr<ResponseSink> sink_;  // used by the loop's thread alone once the job is submitted

  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::shared_ptr<Inbox> inbox_;  // guarded by mutex_; null before Submit and after the end
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_JOB_H_
