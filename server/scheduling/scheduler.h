// Who is admitted, who waits, who is ended: decided between the engine's steps.
#ifndef ELSERVE_SERVER_SCHEDULING_SCHEDULER_H_
#define ELSERVE_SERVER_SCHEDULING_SCHEDULER_H_

#include <cstdint>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/engine.h"
#include "server/scheduling/answer_cache.h"
#include "server/scheduling/flight.h"
#include "server/scheduling/job.h"

namespace elserve {

struct SchedulerOptions {
  // How many later jobs may be admitted before the oldest waiting one, when they fit and it does not. 0: strict order.
  // More keeps the memory fuller, less bounds the wait of large requests more tightly.
  int max_overtakes = 16;
  // Static batching, to compare with: admits only when nothing is in flight, then as much as fits.
  bool admit_only_when_idle = false;
  // A job that is equal to one that waits or is in flight shares its sequence. False: for comparisons.
  bool single_flight = true;
  int64_t answer_cache_bytes = 0;  // of answers that are kept for equal jobs to come; 0: none
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
// Equal jobs (Computation) are computed once. A job that comes while an equal one waits or is in flight joins its
// flight: it takes no place in the queue and nothing of the engine. Each member keeps its own end: a cancellation or a
// deadline ends that member alone, and the sequence is discarded only with the last one. What a deadline cuts short
// (kFinish) is the answer of that member alone; while others stay, the engine is asked for a report. Tokens go to the
// members that stream; one that joins later is given at once what the others had. Whole answers may be kept
// (AnswerCache), and then an equal job is answered from inside Add.
//
// A pure state machine: it reads no clock, takes no lock, starts no thread and touches no device. Add, Cancel, Plan,
// Engine::Step, Commit come from one thread, in that order, step by step; time comes as an argument and never runs
// back. Jobs are told of tokens and of their end (Job::ReportTokens, Job::Finish) from inside these calls.
//
// Cost of a step: what is in flight, at most kWindow waiting flights, and who streams, expires or is answered; not the
// length of the queue. Sources and parameters are compared only where their hashes agree, which are made when the jobs
// are.
class Scheduler {
 public:
  static constexpr int kWindow = 64;

  // Since the beginning. A job that ended counts in exactly one of finished, cancelled, expired and failed.
  struct Counters {
    int64_t added = 0;
    int64_t admitted = 0;          // sequences that entered the engine, each for one job or more
    int64_t finished = 0;          // OK, those cut by their deadline included
    int64_t shared = 0;            // of them: AnsweredBy::kSharing
    int64_t cached = 0;            // of them: AnsweredBy::kCache
    int64_t cancelled = 0;         // CANCELLED
    int64_t expired = 0;           // DEADLINE_EXCEEDED
    int64_t failed = 0;            // all else
    int64_t generated_tokens = 0;  // in the answers of those that finished by computing
  };

  // `shares_documents`: the engine's ModelInfo::encoder_cache.
  Scheduler(const SchedulerOptions& options, bool shares_documents)
      : options_(options), shares_documents_(shares_documents), answers_(options.answer_cache_bytes) {}

  // A job that was cancelled before, or whose answer is kept, ends at once.
  void Add(TimePoint now, const Submission& submission);
  // Ends the job with CANCELLED, queued or in flight; the next Plan tells the engine, if nobody else waits for the
  // sequence. Unknown ids (ended before) are ignored.
  void Cancel(TimePoint now, SequenceId id);
  // Overwrites `plan` with what the next step does. `free` is Engine::free(); what is ended in this plan is counted as
  // free from the next one on.
  void Plan(TimePoint now, const Resources& free, StepPlan* plan);
  // Takes the outcome of the step that carried out the last plan; moves answers out of `result`.
  void Commit(TimePoint now, StepResult* result);
  // Ends all jobs; the next Plan discards what was in flight.
  void EndAll(TimePoint now, const absl::Status& in_flight, const absl::Status& queued);

  // True when a step would do nothing and nothing waits.
  bool idle() const { return flights_.empty() && discards_.empty(); }
  // Sequences to be, and sequences; not the jobs that wait for them.
  size_t queued() const { return waiting_.size(); }
  size_t in_flight() const { return flights_.size() - waiting_.size(); }
  const Counters& counters() const { return counters_; }
  const AnswerCacheCounts& answer_cache() const { return answers_.counts(); }

 private:
  using Members = std::list<Member>;
  struct Place {
    Flight* flight;
    Members::iterator member;
  };

  // The flight that such a job may join; null: none.
  Flight* Joinable(const Job& job) const;
  Flight* Begin(const Submission& submission);
  void Join(Flight* flight, const Submission& submission);
  void ExpireDeadlines(TimePoint now, StepPlan* plan);
  void Admit(TimePoint now, Resources free, StepPlan* plan);
  // What the flight would take now.
  Resources Cost(const Flight& flight) const;
  void Take(TimePoint now, Flight* flight, SequenceUpdate* update);
  // Ends those members that are cut, with what there is.
  void EndCut(TimePoint now, Flight* flight, const std::vector<Hypothesis>& hypotheses);
  // Ends all members, and with them the flight.
  void EndMembers(TimePoint now, Flight* flight, JobResult result);
  // Ends one member though the sequence goes on in the engine, which is to discard it if it was the last one.
  void Leave(TimePoint now, Place place, absl::Status status);
  // Removes the member, and its flight if it was the last one; then tells the job.
  void End(TimePoint now, Place place, JobResult result);
  void Remove(Flight* flight);
  void Tell(Job& job, JobResult result);

  const SchedulerOptions options_;
  const bool shares_documents_;
  AnswerCache answers_;
  absl::flat_hash_map<SequenceId, std::unique_ptr<Flight>> flights_;  // queued and in flight
  absl::flat_hash_map<SequenceId, Place> jobs_;                       // their members
  FlightsByComputation by_computation_;                               // of flights_
  std::list<Flight*> waiting_;                                        // in order of arrival
  ComputationsBySource by_source_;                                    // of flights_ in flight
  absl::btree_set<std::pair<TimePoint, SequenceId>> deadlines_;       // of jobs_, but for those that are cut
  std::vector<SequenceId> discards_;                                  // ended here, still in the engine
  int overtakes_ = 0;                                                 // of the head of waiting_
  bool engine_idle_ = true;                                           // as the last step said
  Counters counters_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_SCHEDULER_H_
