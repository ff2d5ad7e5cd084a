// The one thread that drives an engine.
#ifndef ELSERVE_SERVER_SCHEDULING_ENGINE_LOOP_H_
#define ELSERVE_SERVER_SCHEDULING_ENGINE_LOOP_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "server/scheduling/inbox.h"
#include "server/scheduling/job.h"
#include "server/scheduling/scheduler.h"

namespace elserve {

// What one step did.
struct StepObservation {
  int rows = 0;            // hypotheses decoded
  int documents = 0;       // that these belong to
  int encoded_tokens = 0;  // source tokens whose encoding ended
  StepTimes times;         // by phase, as the engine reports them
  double seconds = 0;      // the whole step, as the loop saw it
};

// For histograms and alarms. Called from the loop's thread under ResponseSink's rules: return at once. Must outlive the
// loop.
class LoopObserver {
 public:
  virtual ~LoopObserver() = default;
  virtual void OnStep(const StepObservation& step) = 0;
  // Once, when the device failed: the model serves no more until it is loaded again.
  virtual void OnUnhealthy(const absl::Status& error) = 0;
};

// The state between two steps, and totals since the start.
struct LoopSnapshot {
  int64_t queued = 0;     // accepted, not admitted; once the loop has them, those that wait for one sequence are one
  int64_t in_flight = 0;  // sequences in the engine
  int64_t peak_in_flight = 0;
  Resources capacity;   // the engine's
  Resources used;       // of capacity
  Resources peak_used;  // the largest value of each after any step

  Scheduler::Counters jobs;
  int64_t rejected = 0;  // refused with RESOURCE_EXHAUSTED
  int64_t steps = 0;
  int64_t rows = 0;            // decoded, over all steps
  int64_t encoded_tokens = 0;  // source tokens
  EncoderCacheCounts encoder_cache;
  AnswerCacheCounts answer_cache;
  StepTimes times;  // seconds over all steps
  double step_seconds = 0;
};

struct EngineLoopOptions {
  SchedulerOptions scheduler;
  int max_queued_requests = 1024;    // jobs accepted and not yet admitted; at least 1
  LoopObserver* observer = nullptr;  // null: none
};

// Owns an engine and the thread that calls Engine::Step: takes what came in, plans, steps, reports, again; sleeps when
// there is nothing to do. Thread-safe. Every job that the inbox accepted is done exactly once, whatever happens: an
// answer, its own error, or the status that the loop ended with.
//
// Its one owner ends it, and waits for its thread: never on that thread itself, nor on one that it waits for. All
// others hold the inbox.
class EngineLoop {
 public:
  EngineLoop(std::unique_ptr<Engine> engine, const EngineLoopOptions& options);
  ~EngineLoop();  // Stop
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  const ModelInfo& info() const { return engine_->info(); }

  // Where jobs are submitted. It may outlive the loop. UNAVAILABLE from it: the loop drains, stopped or is unhealthy.
  const std::shared_ptr<Inbox>& inbox() const { return inbox_; }

  // Accepts no more work, finishes what was accepted, queued or in flight, and what follows from it (Inbox::Pass), and
  // ends what is left at the deadline with UNAVAILABLE. Returns when all jobs are done. A second call, or Stop, from
  // another thread may bring the end forward.
  void Drain(TimePoint deadline);
  // Drain with a deadline that has passed: ends all jobs after the step that runs now.
  void Stop();

  // False once the device failed.
  bool healthy() const { return healthy_.load(std::memory_order_acquire); }
  LoopSnapshot Snapshot() const;

 private:
  void Run();
  // Takes what came in, and waits for it when there is nothing else to do; false when the loop is to end.
  bool Receive();
  // Waits for mail until then; nullopt: as long as it takes.
  void TakeMail(std::optional<TimePoint> until);
  absl::Status Step();
  void Fail(const absl::Status& error);
  void RecordStep(const StepObservation& step);
  void Publish();  // the state between two steps
  std::optional<TimePoint> drain_deadline() const;

  const std::unique_ptr<Engine> engine_;
  const EngineLoopOptions options_;
  const std::shared_ptr<Inbox> inbox_;
  std::atomic<bool> healthy_{true};

  // The loop's thread alone.
  Scheduler scheduler_;
  Inbox::Mail mail_;
  StepPlan plan_;
  StepResult result_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::condition_variable ended_changed_;
  std::optional<TimePoint> drain_deadline_;  // set: draining
  bool ended_ = false;
  LoopSnapshot snapshot_;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_SCHEDULING_ENGINE_LOOP_H_
