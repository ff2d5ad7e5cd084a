#include "server/requests/call.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "server/requests/call_deadline.h"
#include "server/requests/log.h"

namespace elserve {
namespace {

double SecondsSince(TimePoint start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

v1::FinishReason ToProto(FinishReason reason, bool deadline_reached) {
  if (reason == FinishReason::kEos) return v1::FINISH_REASON_EOS;
  if (reason == FinishReason::kStopString) return v1::FINISH_REASON_STOP_STRING;
  return deadline_reached ? v1::FINISH_REASON_DEADLINE : v1::FINISH_REASON_LENGTH;
}

// The texts of tokens, each decoded once.
using TokenTexts = absl::flat_hash_map<int32_t, std::string>;

// As many alternatives for each token.
void AddTopLogprobs(const Tokenizer& tokenizer, const Hypothesis& hypothesis, TokenTexts* texts, v1::Hypothesis* out) {
  std::span<const TokenLogprob> rest = hypothesis.alternatives;
  const size_t count = rest.empty() ? 0 : rest.size() / hypothesis.logprobs.size();
  for (; !rest.empty(); rest = rest.subspan(count)) {
    v1::TopLogprobs* const place = out->add_top_logprobs();
    for (const TokenLogprob& alternative : rest.first(count)) {
      v1::TokenLogprob* const token = place->add_tokens();
      token->set_token_id(alternative.token);
      const auto [text, added] = texts->try_emplace(alternative.token);
      if (added) text->second = tokenizer.Decode({&alternative.token, 1}, /*skip_special_tokens=*/false);
      token->set_text(text->second);
      token->set_logprob(alternative.logprob);
    }
  }
}

}  // namespace

// What the engine's thread holds of a call.
class Call::Sink : public ResponseSink {
 public:
  Sink(std::shared_ptr<Call> call, size_t part) : call_(std::move(call)), part_(part) {}
  void OnTokens(std::span<const int32_t> tokens) override { call_->AddTokens(part_, tokens); }
  void OnDone(JobResult result) override { call_->AddResult(part_, std::move(result)); }

 private:
  const std::shared_ptr<Call> call_;
  const size_t part_;
};

Call::Call(PreparedCall prepared, const CallOrigin& origin, std::shared_ptr<CallListener> listener, Executor* executor,
           CallObserver* observer)
    : prepared_(std::move(prepared)),
      origin_(origin),
      executor_(executor),
      observer_(observer),
      listener_(std::move(listener)) {
  for (size_t i = 0; i < prepared_.jobs.size(); ++i) {
    parts_.push_back(std::make_unique<Part>(prepared_.model->tokenizer()));
    parts_.back()->delta.job = static_cast<int>(i);
  }
}

Call::~Call() = default;

void Call::Start() {
  const std::optional<JobDeadline> deadline = DeadlineOfJobs(prepared_, origin_);
  std::vector<std::shared_ptr<Job>> jobs;
  {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < parts_.size(); ++i) {
      PreparedCall::Job& job = prepared_.jobs[i];
      DecodingSpec decoding = prepared_.decoding;
      if (job.score_from > 0) {
        decoding.max_length = static_cast<int>(job.prefix.size());
        decoding.prefix = std::move(job.prefix);
        decoding.score_from = job.score_from;
      }
      parts_[i]->job = std::make_shared<Job>(JobSpec{.source = std::move(job.source),
                                                     .decoding = std::move(decoding),
                                                     .stream = IsStream(origin_.rpc),
                                                     .deadline = deadline,
                                                     .sink = std::make_shared<Sink>(shared_from_this(), i)});
      // A stream's first tokens; they go out with those that the engine adds.
      if (IsStream(origin_.rpc)) parts_[i]->incoming = prepared_.answer_prefix;
      if (cancelled_) parts_[i]->job->Cancel();
      jobs.push_back(parts_[i]->job);
    }
  }
  const absl::Status status = prepared_.model->inbox().Submit(jobs);
  if (status.ok()) return;
  for (size_t i = 0; i < parts_.size(); ++i) {
    JobResult refused;
    refused.status = status;
    AddResult(i, std::move(refused));
  }
}

void Call::Cancel() {
  const std::lock_guard lock(mutex_);
  if (!cancelled_) cancelled_ = std::chrono::steady_clock::now();
  for (const std::unique_ptr<Part>& part : parts_) {
    if (part->job != nullptr) part->job->Cancel();
  }
}

std::optional<CallDelta> Call::TakeDelta() {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < parts_.size(); ++i) {
    CallDelta& delta = parts_[(next_delta_ + i) % parts_.size()]->delta;
    if (delta.tokens.empty() && delta.text.empty()) continue;
    next_delta_ = delta.job + 1;
    return std::exchange(delta, CallDelta{.job = delta.job, .text = {}, .tokens = {}});
  }
  return std::nullopt;
}

void Call::AddTokens(size_t part, std::span<const int32_t> tokens) {
  const std::lock_guard lock(mutex_);
  std::vector<int32_t>& incoming = parts_[part]->incoming;
  incoming.insert(incoming.end(), tokens.begin(), tokens.end());
  Schedule();
}

void Call::AddResult(size_t part, JobResult result) {
  const std::lock_guard lock(mutex_);
  parts_[part]->result = std::move(result);
  Schedule();
}

void Call::Schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  executor_->Run([self = shared_from_this()] { self->Work(); });
}

void Call::Work() {
  std::vector<int32_t> tokens;
  std::optional<JobResult> result;
  while (true) {
    bool found = false;
    for (const std::unique_ptr<Part>& part : parts_) {
      if (!Collect(*part, &tokens, &result)) continue;
      found = true;
      const bool failed = result && !result->status.ok();
      if (!tokens.empty() && error_.ok() && !failed) Stream(*part, tokens, false);
      if (result) End(*part, *std::exchange(result, std::nullopt));
    }
    if (ended_parts_ == parts_.size()) return Finish();
    if (found) continue;
    const std::lock_guard lock(mutex_);
    const bool more = std::any_of(parts_.begin(), parts_.end(), [](const std::unique_ptr<Part>& part) {
      return !part->incoming.empty() || part->result.has_value();
    });
    if (more) continue;
    scheduled_ = false;
    return;
  }
}

bool Call::Collect(Part& part, std::vector<int32_t>* tokens, std::optional<JobResult>* result) {
  const std::lock_guard lock(mutex_);
  *tokens = std::exchange(part.incoming, {});
  *result = std::exchange(part.result, std::nullopt);
  return !tokens->empty() || result->has_value();
}

void Call::End(Part& part, JobResult result) {
  ++ended_parts_;
  const std::vector<int32_t>& prefix = prepared_.answer_prefix;
  for (Hypothesis& hypothesis : result.hypotheses) {
    hypothesis.tokens.insert(hypothesis.tokens.begin(), prefix.begin(), prefix.end());
  }
  if (!result.status.ok()) {
    Fail(result.status);
  } else if (result.hypotheses.empty()) {
    Fail(absl::InternalError("the engine ended the request without an answer"));
  } else if (IsStream(origin_.rpc) && error_.ok()) {
    const std::vector<int32_t>& best = result.hypotheses.front().tokens;
    if (part.streamed.size() > best.size() || !std::equal(part.streamed.begin(), part.streamed.end(), best.begin())) {
      Fail(absl::InternalError("the engine took back tokens that were streamed"));
    } else {
      Stream(part, std::span(best).subspan(part.streamed.size()), true);
    }
  }
  part.ended = std::move(result);
}

void Call::Stream(Part& part, std::span<const int32_t> tokens, bool last) {
  part.streamed.insert(part.streamed.end(), tokens.begin(), tokens.end());
  std::string text = part.detokenizer.Push(tokens);
  if (last) text += part.detokenizer.Finish();
  if (tokens.empty() && text.empty()) return;
  if (!first_token_seconds_) first_token_seconds_ = SecondsSince(origin_.arrived);
  {
    const std::lock_guard lock(mutex_);
    part.delta.text += text;
    part.delta.tokens.insert(part.delta.tokens.end(), tokens.begin(), tokens.end());
  }
  listener_->OnDeltas();
}

void Call::Fail(absl::Status error) {
  if (!error_.ok()) return;
  error_ = std::move(error);
  const std::lock_guard lock(mutex_);
  for (const std::unique_ptr<Part>& part : parts_) part->job->Cancel();
}

void Call::Finish() {
  absl::StatusOr<CallAnswer> answer = error_.ok() ? absl::StatusOr<CallAnswer>(Fold()) : error_;
  // Behind Fold, which takes time too.
  if (absl::Status status = FinalStatus(); !status.ok()) answer = std::move(status);
  Report(answer);
  const std::shared_ptr<CallListener> listener = std::move(listener_);
  listener->OnAnswer(std::move(answer));
}

// What the jobs failed with; else what gRPC told the client meanwhile, though the jobs may have come to an answer.
absl::Status Call::FinalStatus() {
  if (!error_.ok() && !absl::IsCancelled(error_)) return error_;
  const std::lock_guard lock(mutex_);
  if (ClientDeadlinePassed(origin_, std::chrono::steady_clock::now(), cancelled_)) {
    return absl::DeadlineExceededError("the deadline passed before the answer was complete");
  }
  return cancelled_ ? absl::CancelledError("the client went away") : error_;
}

CallAnswer Call::Fold() const {
  CallAnswer answer;
  for (size_t i = 0; i < parts_.size(); ++i) answer.jobs.push_back(FoldJob(*parts_[i], prepared_.jobs[i].truncated));
  answer.questions = prepared_.questions;
  answer.effective = prepared_.effective;
  answer.model = prepared_.model->name();
  answer.request_id = prepared_.request_id;
  return answer;
}

CallAnswer::Job Call::FoldJob(const Part& part, bool truncated) const {
  CallAnswer::Job job;
  TokenTexts texts;
  int generated = 0;
  for (const Hypothesis& hypothesis : part.ended->hypotheses) {
    v1::Hypothesis& out = job.hypotheses.emplace_back();
    out.set_text(prepared_.model->tokenizer().Decode(hypothesis.tokens));
    out.mutable_token_ids()->Add(hypothesis.tokens.begin(), hypothesis.tokens.end());
    out.set_score(hypothesis.score);
    if (prepared_.token_logprobs) {
      out.mutable_token_logprobs()->Add(hypothesis.logprobs.begin(), hypothesis.logprobs.end());
    }
    AddTopLogprobs(prepared_.model->tokenizer(), hypothesis, &texts, &out);
    out.set_finish_reason(ToProto(hypothesis.reason, part.ended->deadline_reached));
    generated += static_cast<int>(hypothesis.tokens.size() - prepared_.answer_prefix.size());
  }
  const JobTimings& timings = part.ended->timings;
  job.usage.set_source_tokens(prepared_.SourceTokens(part.job->source().size()));
  job.usage.set_truncated(truncated);
  job.usage.set_generated_tokens(generated);
  job.usage.set_queue_seconds(timings.queue_seconds);
  job.usage.set_encode_seconds(timings.encode_seconds);
  job.usage.set_decode_seconds(timings.decode_seconds);
  job.usage.set_steps(timings.steps);
  return job;
}

void Call::Report(const absl::StatusOr<CallAnswer>& answer) const {
  CallRecord record{.model = prepared_.model->name(),
                    .rpc = origin_.rpc,
                    .outcome = answer.status().code(),
                    .seconds = SecondsSince(origin_.arrived),
                    .first_token_seconds = first_token_seconds_,
                    .longest_queue_seconds = std::nullopt};
  int source_tokens = 0;
  for (const std::unique_ptr<Part>& part : parts_) {
    record.longest_queue_seconds =
        std::max(record.longest_queue_seconds.value_or(0), part->ended->timings.queue_seconds);
    source_tokens += prepared_.SourceTokens(part->job->source().size());
  }
  int generated_tokens = 0;
  if (answer.ok()) {
    for (const CallAnswer::Job& job : answer->jobs) generated_tokens += job.usage.generated_tokens();
  }
  LogCallEnd(prepared_.request_id, record, answer.status(),
             {.jobs = parts_.size(), .source_tokens = source_tokens, .generated_tokens = generated_tokens});
  observer_->OnCallEnded(record);
}

}  // namespace elserve
