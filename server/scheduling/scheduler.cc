#include "server/scheduling/scheduler.h"

#include <algorithm>
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

absl::Status Cancelled() { return absl::CancelledError("the request was cancelled"); }

// `when`: "after 1.000 s in the queue".
absl::Status Expired(const JobDeadline& deadline, std::string_view when) {
  return absl::DeadlineExceededError(absl::StrFormat("%s passed %s", deadline.name, when));
}

// Of a member that ends now. It may have come when the sequence was under way, and be the oldest that is left.
JobTimings TimingsOf(const Flight& flight, const Member& member, AnsweredBy answered_by, TimePoint now) {
  JobTimings timings;
  if (!flight.admitted || answered_by != AnsweredBy::kComputing) {
    timings.queue_seconds = Seconds(member.submitted, now);
    return timings;
  }
  const TimePoint admitted = std::max(*flight.admitted, member.submitted);
  const TimePoint encoded = std::max(flight.encoded.value_or(now), member.submitted);
  timings.queue_seconds = Seconds(member.submitted, admitted);
  timings.encode_seconds = Seconds(admitted, encoded);
  timings.decode_seconds = Seconds(encoded, now);
  timings.steps = flight.steps;
  return timings;
}

}  // namespace

void Scheduler::Add(TimePoint now, const Submission& submission) {
  Job& job = *submission.job;
  ++counters_.added;
  JobResult result;
  result.timings.queue_seconds = Seconds(submission.submitted, now);
  // Its cancellation may have come when nobody knew its id.
  if (job.cancelled()) {
    result.status = Cancelled();
    return Tell(job, std::move(result));
  }
  if (const std::vector<Hypothesis>* answer = answers_.Find(*job.computation()); answer != nullptr) {
    result.hypotheses = *answer;
    result.answered_by = AnsweredBy::kCache;
    return Tell(job, std::move(result));
  }
  Flight* const flight = options_.single_flight ? Joinable(job) : nullptr;
  Join(flight != nullptr ? flight : Begin(submission), submission);
}

// There are two equal flights where a stream came while one that does not stream was in flight; who comes later joins
// the one that is further on.
Flight* Scheduler::Joinable(const Job& job) const {
  Flight* found = nullptr;
  const auto [begin, end] = by_computation_.equal_range(job.computation().get());
  for (auto it = begin; it != end; ++it) {
    Flight* const flight = it->second;
    if (job.stream() && flight->admitted && !flight->stream) continue;
    if (found == nullptr || flight->id < found->id) found = flight;
  }
  return found;
}

Flight* Scheduler::Begin(const Submission& submission) {
  const SequenceId id = submission.job->id();
  std::unique_ptr<Flight>& flight = flights_[id];
  flight = std::make_unique<Flight>();
  flight->id = id;
  flight->computation = submission.job->computation();
  flight->resources = submission.resources;
  flight->by_computation = by_computation_.emplace(flight->computation.get(), flight.get());
  flight->waiting = waiting_.insert(waiting_.end(), flight.get());
  return flight.get();
}

void Scheduler::Join(Flight* flight, const Submission& submission) {
  Job& job = *submission.job;
  flight->members.push_back({.job = submission.job, .submitted = submission.submitted});
  jobs_[job.id()] = {flight, std::prev(flight->members.end())};
  if (job.deadline()) deadlines_.insert({job.deadline()->at, job.id()});
  if (!job.stream()) return;
  flight->stream = true;
  if (!flight->streamed.empty()) job.ReportTokens(flight->streamed);
}

void Scheduler::Cancel(TimePoint now, SequenceId id) {
  const auto it = jobs_.find(id);
  if (it != jobs_.end()) Leave(now, it->second, Cancelled());
}

void Scheduler::Plan(TimePoint now, const Resources& free, StepPlan* plan) {
  plan->ends.clear();
  plan->admissions.clear();
  const bool nothing_in_flight = in_flight() == 0 && discards_.empty();
  ExpireDeadlines(now, plan);
  for (const SequenceId id : discards_) plan->ends.push_back({id, EndKind::kDiscard});
  discards_.clear();
  if (nothing_in_flight || !options_.admit_only_when_idle) Admit(now, free, plan);

  // Every job ends, even where the engine measures one thing and grants another.
  if (nothing_in_flight && engine_idle_ && plan->empty() && !waiting_.empty()) {
    EndMembers(now, waiting_.front(),
               Failure(absl::InternalError("the idle engine has no room for a sequence that it measured")));
  }
}

void Scheduler::ExpireDeadlines(TimePoint now, StepPlan* plan) {
  std::vector<Flight*> cut;  // their members stay until the step's update, so they do too
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const auto [flight, member] = jobs_.find(deadlines_.begin()->second)->second;
    deadlines_.erase(deadlines_.begin());
    const JobDeadline& deadline = *member->job->deadline();
    if (!flight->admitted) {
      const double queued = Seconds(member->submitted, now);
      Leave(now, {flight, member}, Expired(deadline, absl::StrFormat("after %.3f s in the queue", queued)));
    } else if (deadline.end == EndKind::kDiscard) {
      Leave(now, {flight, member}, Expired(deadline, "before the answer was complete"));
    } else {
      member->cut = true;
      if (++flight->cut == 1) cut.push_back(flight);
    }
  }
  for (Flight* flight : cut) {
    flight->finishing = flight->cut == flight->members.size();
    plan->ends.push_back({flight->id, flight->finishing ? EndKind::kFinish : EndKind::kReport});
  }
}

Resources Scheduler::Cost(const Flight& flight) const {
  Resources cost = flight.resources;
  if (shares_documents_ && by_source_.contains(flight.computation.get())) cost.encoder_pages = 0;
  return cost;
}

void Scheduler::Admit(TimePoint now, Resources free, StepPlan* plan) {
  // One pass is enough: what did not fit does not fit either once there is less. Nor does its source come for nothing
  // meanwhile: where its pages did not fit, they do not fit for a later job.
  int passed = 0;  // waiting flights that do not fit
  for (auto place = waiting_.begin(); place != waiting_.end() && passed < kWindow;) {
    Flight& flight = **place;
    const Resources cost = Cost(flight);
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
    const Computation& computation = *flight.computation;
    plan->admissions.push_back({flight.id, computation.source(), computation.decoding(), flight.stream});
    free -= cost;
    flight.admitted = now;
    flight.by_source = by_source_.insert(&computation);
    place = waiting_.erase(place);
    ++counters_.admitted;
  }
}

void Scheduler::Commit(TimePoint now, StepResult* result) {
  engine_idle_ = result->idle;
  for (SequenceUpdate& update : result->updates) {
    const auto it = flights_.find(update.id);
    if (it != flights_.end()) Take(now, it->second.get(), &update);  // else it was discarded in this step
  }
}

void Scheduler::Take(TimePoint now, Flight* flight, SequenceUpdate* update) {
  // A report is from before the step.
  if (!update->finished) EndCut(now, flight, update->hypotheses);
  if (!update->status.ok()) return EndMembers(now, flight, Failure(std::move(update->status)));
  if (update->encoded) flight->encoded = now;
  if (update->decoded_rows > 0) ++flight->steps;
  if (!update->tokens.empty()) {
    flight->streamed.insert(flight->streamed.end(), update->tokens.begin(), update->tokens.end());
    for (const Member& member : flight->members) {
      if (member.job->stream()) member.job->ReportTokens(update->tokens);
    }
  }
  if (!update->finished) return;
  if (flight->finishing) return EndCut(now, flight, update->hypotheses);
  answers_.Put(flight->computation, update->hypotheses);
  JobResult done;
  done.hypotheses = std::move(update->hypotheses);
  EndMembers(now, flight, std::move(done));
}

void Scheduler::EndCut(TimePoint now, Flight* flight, const std::vector<Hypothesis>& hypotheses) {
  AnsweredBy answered_by = AnsweredBy::kComputing;
  auto next = flight->members.begin();
  // With the last member the flight is gone.
  for (size_t left = flight->cut; left > 0;) {
    const auto member = next++;
    JobResult done;
    done.answered_by = std::exchange(answered_by, AnsweredBy::kSharing);
    if (!member->cut) continue;
    --left;
    if (hypotheses.empty()) {
      done.status = Expired(*member->job->deadline(), "before the first token");
    } else {
      done.hypotheses = hypotheses;
      done.deadline_reached = true;
    }
    End(now, {flight, member}, std::move(done));
  }
}

void Scheduler::EndMembers(TimePoint now, Flight* flight, JobResult result) {
  AnsweredBy answered_by = AnsweredBy::kComputing;
  for (size_t left = flight->members.size(); left > 1; --left) {
    result.answered_by = std::exchange(answered_by, AnsweredBy::kSharing);
    End(now, {flight, flight->members.begin()}, result);
  }
  result.answered_by = answered_by;
  End(now, {flight, flight->members.begin()}, std::move(result));
}

void Scheduler::EndAll(TimePoint now, const absl::Status& in_flight, const absl::Status& queued) {
  while (!jobs_.empty()) {
    const Place place = jobs_.begin()->second;
    Leave(now, place, place.flight->admitted ? in_flight : queued);
  }
}

void Scheduler::Leave(TimePoint now, Place place, absl::Status status) {
  const Flight& flight = *place.flight;
  if (flight.admitted && flight.members.size() == 1) discards_.push_back(flight.id);
  End(now, place, Failure(std::move(status)));
}

void Scheduler::End(TimePoint now, Place place, JobResult result) {
  Flight* const flight = place.flight;
  const Member member = std::move(*place.member);
  flight->members.erase(place.member);
  if (member.cut) --flight->cut;
  jobs_.erase(member.job->id());
  if (member.job->deadline()) deadlines_.erase({member.job->deadline()->at, member.job->id()});
  result.timings = TimingsOf(*flight, member, result.answered_by, now);
  if (flight->members.empty()) Remove(flight);
  Tell(*member.job, std::move(result));
}

void Scheduler::Remove(Flight* flight) {
  if (flight->admitted) {
    by_source_.erase(flight->by_source);
  } else {
    if (flight->waiting == waiting_.begin()) overtakes_ = 0;
    waiting_.erase(flight->waiting);
  }
  by_computation_.erase(flight->by_computation);
  flights_.erase(flight->id);
}

void Scheduler::Tell(Job& job, JobResult result) {
  if (result.status.ok()) {
    ++counters_.finished;
    if (result.answered_by == AnsweredBy::kSharing) {
      ++counters_.shared;
    } else if (result.answered_by == AnsweredBy::kCache) {
      ++counters_.cached;
    } else {
      for (const Hypothesis& hypothesis : result.hypotheses) counters_.generated_tokens += hypothesis.tokens.size();
    }
  } else if (absl::IsCancelled(result.status)) {
    ++counters_.cancelled;
  } else if (absl::IsDeadlineExceeded(result.status)) {
    ++counters_.expired;
  } else {
    ++counters_.failed;
  }
  job.Finish(std::move(result));
}

}  // namespace elserve
