// Who is admitted, who waits, who is ended: decided between the engine's steps.
#ifndef ELSERVE_SERVER_SCHEDULING_SCHEDULER_H_
#define ELSERVE_SERVER_SCHEDULING_SCHEDULER_H_

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/engine.h"
#include "server/scheduling/job.h"

namespace elserve {

struct SchedulerOptions {
  // How many later jobs may be admitted before the oldest waiting one, when they fit and it does not. 0: strict order.
  // More keeps the memory fuller, less bounds the wait of large requests more tightly.
  int max_overtakes = 16;
  // Static batching, to compare with: admits only when nothing is in flight, then as much as fits.
  bool admit_only_when_idle = false;
};

// An accepted job on its way into the Scheduler.
struct Submission {
  std::shared_ptr<Job> job;
  Resources resources;  // Engine::Measure: its worst case
  TimePoint submitted;
};

// First come, first served, with a bounded exception: of the first kWindow waiting jobs the first that fits is
// admitted, until none fits. The oldest one is overtaken at most max_overtakes times; then admission waits for it. A
// job takes its worst case at admission and is never preempted, so what is admitted ends.
//
// Where the engine shares documents (ModelInfo::encoder_cache), encoder pages of equal sources in flight count once: a
// job takes none if another one in flight, or admitted before it in the same plan, has its source. The Scheduler need
// not ask the engine for that. It knows the sources of its own jobs in flight, and each of them is a document in use
// there: a job leaves here when its end is decided or reported, never after the engine let go of it. What the engine
// keeps of sources that nobody uses is no discount, since the engine counts it as free. Of a job that a plan ends, the
// pages are not in `free`, so whoever gets them for nothing in the same plan takes what nobody else was promised.
//
// A pure state machine: it reads no clock, takes no lock, starts no thread and touches no device. Add, Cancel, Plan,
// Engine::Step, Commit come from one thread, in that order, step by step; time comes as an argument and never runs
// back. Jobs are told of tokens and of their end (Job::ReportTokens, Job::Finish) from inside these calls.
//
// Cost of a step: what is in flight, at most kWindow waiting jobs, and what expires; not the length of the queue.
// Sources are compared only where their hashes agree, which are made when the jobs are.
class Scheduler {
 public:
  static constexpr int kWindow = 64;

  // Since the beginning. A job that ended counts in exactly one of finished, cancelled, expired and failed.
  struct Counters {
    int64_t added = 0;
    int64_t admitted = 0;
    int64_t finished = 0;          // OK, those cut by their deadline included
    int64_t cancelled = 0;         // CANCELLED
    int64_t expired = 0;           // DEADLINE_EXCEEDED
    int64_t failed = 0;            // all else
    int64_t generated_tokens = 0;  // in the answers of those that finished
  };

  // `shares_documents`: the engine's ModelInfo::encoder_cache.
  Scheduler(const SchedulerOptions& options, bool shares_documents)
      : options_(options), shares_documents_(shares_documents) {}

  void Add(Submission submission);
  // Ends the job with CANCELLED, queued or in flight; the next Plan tells the engine. Unknown ids (ended before) are
  // ignored.
  void Cancel(TimePoint now, SequenceId id);
  // Overwrites `plan` with what the next step does. `free` is Engine::free(); what is ended in this plan is counted as
  // free from the next one on.
  void Plan(TimePoint now, const Resources& free, StepPlan* plan);
  // Takes the outcome of the step that carried out the last plan; moves answers out of `result`.
  void Commit(TimePoint now, StepResult* result);
  // Ends all jobs; the next Plan discards what was in flight.
  void EndAll(TimePoint now, const absl::Status& in_flight, const absl::Status& queued);

  // True when a step would do nothing and nothing waits.
  bool idle() const { return jobs_.empty() && discards_.empty(); }
  size_t queued() const { return waiting_.size(); }
  size_t in_flight() const { return jobs_.size() - waiting_.size(); }
  const Counters& counters() const { return counters_; }

 private:
  struct SourceHash {
    size_t operator()(const Job* job) const { return job->source_hash(); }
  };
  struct SameSource {
    bool operator()(const Job* a, const Job* b) const { return a == b || a->source() == b->source(); }
  };
  using Sources = std::unordered_multiset<const Job*, SourceHash, SameSource>;
  struct Entry {
    Submission submission;
    std::list<SequenceId>::iterator place;  // in waiting_, while not admitted
    Sources::iterator source;               // in sources_, from then on
    std::optional<TimePoint> admitted, encoded;
    bool finishing = false;  // its deadline passed in flight, and the engine was told to finish it
    int steps = 0;
  };
  using Entries = absl::flat_hash_map<SequenceId, Entry>;

  void ExpireDeadlines(TimePoint now, StepPlan* plan);
  void Admit(TimePoint now, Resources free, StepPlan* plan);
  // What the job would take now.
  Resources Cost(const Submission& submission) const;
  // Removes the job, then tells it.
  void End(TimePoint now, Entries::iterator it, JobResult result);

  const SchedulerOptions options_;
  const bool shares_documents_;
  Entries jobs_;                                                 // queued and in flight
  std::list<SequenceId> waiting_;                                // in order of arrival
  Sources sources_;                                              // of jobs_ in flight
  absl::btree_set<std::pair<TimePoint, SequenceId>> deadlines_;  // of jobs_, but for those that are finishing
  std::vector<SequenceId> discards_;                             // ended here, still in the engine
  int overtakes_ = 0;                                            // of the head of waiting_
  bool engine_idle_ = true;                                      // as the last step said
  Counters counters_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_SCHEDULER_H_
