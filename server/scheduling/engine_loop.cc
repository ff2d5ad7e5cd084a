#include "server/scheduling/engine_loop.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

TimePoint Now() { return std::chrono::steady_clock::now(); }

Resources Max(const Resources& a, const Resources& b) {
  return {.rows = std::max(a.rows, b.rows),
          .encoder_pages = std::max(a.encoder_pages, b.encoder_pages),
          .decoder_blocks = std::max(a.decoder_blocks, b.decoder_blocks),
          .edits = std::max(a.edits, b.edits)};
}

absl::Status Draining() { return absl::UnavailableError("the server is shutting down and takes no more work"); }

}  // namespace

EngineLoop::EngineLoop(std::unique_ptr<Engine> engine, const EngineLoopOptions& options)
    : engine_(std::move(engine)),
      options_(options),
      inbox_(std::make_shared<Inbox>(engine_.get(), static_cast<size_t>(options.max_queued_requests))),
      scheduler_(options.scheduler, engine_->info().encoder_cache) {
  snapshot_.capacity = engine_->info().capacity;
  thread_ = std::thread([this] { Run(); });
}

EngineLoop::~EngineLoop() {
  Stop();
  thread_.join();
}

void EngineLoop::Drain(TimePoint deadline) {
  // Closed before the loop can see the deadline: once it does, what comes is from calls that were accepted.
  inbox_->Close(Draining());
  std::unique_lock lock(mutex_);
  drain_deadline_ = std::min(deadline, drain_deadline_.value_or(deadline));
  inbox_->Wake();
  ended_changed_.wait(lock, [this] { return ended_; });
}

void EngineLoop::Stop() { Drain(TimePoint::min()); }

LoopSnapshot EngineLoop::Snapshot() const {
  std::lock_guard lock(mutex_);
  LoopSnapshot snapshot = snapshot_;
  snapshot.queued = static_cast<int64_t>(inbox_->queued());
  snapshot.rejected = inbox_->rejected();
  return snapshot;
}

void EngineLoop::Run() {
  absl::Status status;
  while (status.ok() && Receive()) status = Step();
  if (!status.ok()) Fail(status);
  Publish();
  std::lock_guard lock(mutex_);
  ended_ = true;
  ended_changed_.notify_all();
}

bool EngineLoop::Receive() {
  while (true) {
    Publish();
    const std::optional<TimePoint> deadline = drain_deadline();
    TakeMail(scheduler_.idle() ? deadline : Now());
    if (deadline.has_value() && *deadline <= Now()) {
      const absl::Status status = absl::UnavailableError("the server shut down before the request was finished");
      inbox_->CloseForGood(status);
      TakeMail(Now());
      scheduler_.EndAll(Now(), /*in_flight=*/status, /*queued=*/status);
    }
    if (!scheduler_.idle()) return true;
    if (deadline.has_value() && inbox_->ended()) return false;
  }
}

void EngineLoop::TakeMail(std::optional<TimePoint> until) {
  inbox_->Take(until, &mail_);
  const TimePoint now = Now();
  for (const Submission& submission : mail_.submissions) scheduler_.Add(now, submission);
  for (const SequenceId id : mail_.cancelled) scheduler_.Cancel(now, id);
  inbox_->SetTakenAndQueued(scheduler_.queued());
}

absl::Status EngineLoop::Step() {
  const TimePoint start = Now();
  scheduler_.Plan(start, engine_->free(), &plan_);
  inbox_->SetTakenAndQueued(scheduler_.queued());
  if (scheduler_.idle() && plan_.empty()) return absl::OkStatus();  // all that waited expired

  if (absl::Status status = engine_->Step(plan_, &result_); !status.ok()) return status;
  const TimePoint end = Now();
  StepObservation step{.rows = result_.rows,
                       .documents = result_.documents,
                       .encoded_tokens = result_.encoded_tokens,
                       .times = result_.times,
                       .seconds = std::chrono::duration<double>(end - start).count()};
  RecordStep(step);
  scheduler_.Commit(end, &result_);
  return absl::OkStatus();
}

void EngineLoop::Fail(const absl::Status& error) {
  healthy_.store(false, std::memory_order_release);
  const absl::Status queued = absl::UnavailableError(absl::StrCat("the model's device failed: ", error.message()));
  const absl::Status in_flight = absl::InternalError(absl::StrCat("the model's device failed: ", error.message()));
  inbox_->CloseForGood(queued);
  TakeMail(Now());
  scheduler_.EndAll(Now(), in_flight, queued);
  inbox_->SetTakenAndQueued(0);
  if (options_.observer != nullptr) options_.observer->OnUnhealthy(error);
}

void EngineLoop::RecordStep(const StepObservation& step) {
  {
    std::lock_guard lock(mutex_);
    LoopSnapshot& total = snapshot_;
    ++total.steps;
    total.rows += step.rows;
    total.encoded_tokens += step.encoded_tokens;
    total.encoder_cache = result_.encoder_cache;
    total.times.encode += step.times.encode;
    total.times.decode += step.times.decode;
    total.times.select += step.times.select;
    total.times.search += step.times.search;
    total.step_seconds += step.seconds;
    total.peak_in_flight = std::max(total.peak_in_flight, static_cast<int64_t>(scheduler_.in_flight()));
  }
  if (options_.observer != nullptr) options_.observer->OnStep(step);
}

void EngineLoop::Publish() {
  Resources used = engine_->info().capacity;
  used -= engine_->free();
  std::lock_guard lock(mutex_);
  snapshot_.in_flight = static_cast<int64_t>(scheduler_.in_flight());
  snapshot_.used = used;
  snapshot_.peak_used = Max(snapshot_.peak_used, used);
  snapshot_.jobs = scheduler_.counters();
  snapshot_.answer_cache = scheduler_.answer_cache();
}

std::optional<TimePoint> EngineLoop::drain_deadline() const {
  std::lock_guard lock(mutex_);
  return drain_deadline_;
}

}  // namespace elserve
