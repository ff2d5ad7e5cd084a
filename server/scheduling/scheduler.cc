#include "server/scheduling/scheduler.h"

#include <chrono>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"

namespace elserve {
namespace {

double Seconds(TimePoint from, TimePoint to) { return std::chrono::duration<double>(to - from).count(); }

JobResult Failure(absl::Status status) {
  JobResult result;
  result.status = std::move(status);
  return result;
}

// `when`: "after 1.000 s in the queue".
JobResult Expired(const JobDeadline& deadline, std::string_view when) {
  return Failure(absl::DeadlineExceededError(absl::StrFormat("%s passed %s", deadline.name, when)));
}

}  // namespace

void Scheduler::Add(Submission submission) {
  const SequenceId id = submission.job->id();
  if (submission.job->deadline()) deadlines_.insert({submission.job->deadline()->at, id});
  Entry& entry = jobs_[id];
  entry.submission = std::move(submission);
  entry.place = waiting_.insert(waiting_.end(), id);
  ++counters_.added;
}

void Scheduler::Cancel(TimePoint now, SequenceId id) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return;
  if (it->second.admitted) discards_.push_back(id);
  End(now, it, Failure(absl::CancelledError("the request was cancelled")));
}

void Scheduler::Plan(TimePoint now, const Resources& free, StepPlan* plan) {
  plan->ends.clear();
  plan->admissions.clear();
  const bool nothing_in_flight = in_flight() == 0 && discards_.empty();
  for (const SequenceId id : discards_) plan->ends.push_back({id, EndKind::kDiscard});
  discards_.clear();
  ExpireDeadlines(now, plan);
  if (nothing_in_flight || !options_.admit_only_when_idle) Admit(now, free, plan);

  // Every job ends, even where the engine measures one thing and grants another.
  if (nothing_in_flight && engine_idle_ && plan->empty() && !waiting_.empty()) {
    End(now, jobs_.find(waiting_.front()),
        Failure(absl::InternalError("the idle engine has no room for a sequence that it measured")));
  }
}

void Scheduler::ExpireDeadlines(TimePoint now, StepPlan* plan) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto it = jobs_.find(deadlines_.begin()->second);
    Entry& entry = it->second;
    const JobDeadline& deadline = *entry.submission.job->deadline();
    deadlines_.erase(deadlines_.begin());
    if (!entry.admitted) {
      const double queued = Seconds(entry.submission.submitted, now);
      End(now, it, Expired(deadline, absl::StrFormat("after %.3f s in the queue", queued)));
      continue;
    }
    plan->ends.push_back({it->first, deadline.end});
    if (deadline.end == EndKind::kFinish) {
      entry.finishing = true;  // the step's update is its answer
    } else {
      End(now, it, Expired(deadline, "before the answer was complete"));
    }
  }
}

Resources Scheduler::Cost(const Submission& submission) const {
  Resources cost = submission.resources;
  if (shares_documents_ && sources_.contains(submission.job.get())) cost.encoder_pages = 0;
  return cost;
}

void Scheduler::Admit(TimePoint now, Resources free, StepPlan* plan) {
  // One pass is enough: what did not fit does not fit either once there is less. Nor does its source come for nothing
  // meanwhile: where its pages did not fit, they do not fit for a later job.
  int passed = 0;  // waiting jobs that do not fit
  for (auto place = waiting_.begin(); place != waiting_.end() && passed < kWindow;) {
    Entry& entry = jobs_.find(*place)->second;
    const Resources cost = Cost(entry.submission);
    if (!cost.Fits(free)) {
      ++passed;
      ++place;
      continue;
    }
    if (passed == 0) {
      overtakes_ = 0;
    } else if (overtakes_ == options_.max_overtakes) {
      return;
    } else {
      ++overtakes_;
    }
    const Job& job = *entry.submission.job;
    plan->admissions.push_back({job.id(), job.source(), job.decoding(), job.stream()});
    free -= cost;
    entry.admitted = now;
    entry.source = sources_.insert(&job);
    place = waiting_.erase(place);
    ++counters_.admitted;
  }
}

void Scheduler::Commit(TimePoint now, StepResult* result) {
  engine_idle_ = result->idle;
  for (SequenceUpdate& update : result->updates) {
    const auto it = jobs_.find(update.id);
    if (it == jobs_.end()) continue;  // discarded in this step
    Entry& entry = it->second;
    if (!update.status.ok()) {
      End(now, it, Failure(std::move(update.status)));
      continue;
    }
    if (update.encoded) entry.encoded = now;
    if (update.decoded_rows > 0) ++entry.steps;
    if (entry.submission.job->stream() && !update.tokens.empty()) entry.submission.job->ReportTokens(update.tokens);
    if (!update.finished) continue;
    if (entry.finishing && update.hypotheses.empty()) {
      End(now, it, Expired(*entry.submission.job->deadline(), "before the first token"));
    } else {
      JobResult done;
      done.hypotheses = std::move(update.hypotheses);
      done.deadline_reached = entry.finishing;
      End(now, it, std::move(done));
    }
  }
}

void Scheduler::EndAll(TimePoint now, const absl::Status& in_flight, const absl::Status& queued) {
  while (!jobs_.empty()) {
    const auto it = jobs_.begin();
    const bool admitted = it->second.admitted.has_value();
    if (admitted) discards_.push_back(it->first);
    End(now, it, Failure(admitted ? in_flight : queued));
  }
}

void Scheduler::End(TimePoint now, Entries::iterator it, JobResult result) {
  const Entry entry = std::move(it->second);
  const std::shared_ptr<Job>& job = entry.submission.job;
  jobs_.erase(it);
  if (job->deadline()) deadlines_.erase({job->deadline()->at, job->id()});
  if (entry.admitted) {
    sources_.erase(entry.source);
  } else {
    if (entry.place == waiting_.begin()) overtakes_ = 0;
    waiting_.erase(entry.place);
  }

  JobTimings& timings = result.timings;
  timings.queue_seconds = Seconds(entry.submission.submitted, entry.admitted.value_or(now));
  if (entry.admitted) timings.encode_seconds = Seconds(*entry.admitted, entry.encoded.value_or(now));
  if (entry.encoded) timings.decode_seconds = Seconds(*entry.encoded, now);
  timings.steps = entry.steps;

  if (result.status.ok()) {
    ++counters_.finished;
    for (const Hypothesis& hypothesis : result.hypotheses) counters_.generated_tokens += hypothesis.tokens.size();
  } else if (absl::IsCancelled(result.status)) {
    ++counters_.cancelled;
  } else if (absl::IsDeadlineExceeded(result.status)) {
    ++counters_.expired;
  } else {
    ++counters_.failed;
  }
  job->Finish(std::move(result));
}

}  // namespace elserve
