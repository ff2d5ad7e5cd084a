#include "server/scheduling/job.h"

#include <utility>

#include "server/scheduling/inbox.h"

namespace elserve {
namespace {

SequenceId NextId() {
  static std::atomic<SequenceId> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Job::Job(JobSpec spec)
    : id_(NextId()),
      computation_(std::make_shared<const Computation>(std::move(spec.source), std::move(spec.decoding),
                                                       std::move(spec.principal))),
      stream_(spec.stream),
      deadline_(std::move(spec.deadline)),
      sink_(std::move(spec.sink)) {}

// The flag is set before the inbox hears of it: a loop that meets the id before the job itself finds the flag set when
// the job comes.
void Job::Cancel() {
  if (cancelled_.exchange(true, std::memory_order_acq_rel)) return;
  std::shared_ptr<Inbox> inbox;
  {
    std::lock_guard lock(mutex_);
    inbox = inbox_;
  }
  if (inbox != nullptr) inbox->PushCancel(id_);
}

void Job::Attach(std::shared_ptr<Inbox> inbox) {
  std::lock_guard lock(mutex_);
  inbox_ = std::move(inbox);
}

void Job::ReportTokens(std::span<const int32_t> tokens) { sink_->OnTokens(tokens); }

void Job::Finish(JobResult result) {
  const std::shared_ptr<ResponseSink> sink = std::move(sink_);
  Abandon();
  sink->OnDone(std::move(result));
}

void Job::Abandon() {
  sink_.reset();
  Attach(nullptr);
}

}  // namespace elserve
