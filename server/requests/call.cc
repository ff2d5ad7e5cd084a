#include "server/requests/call.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "server/requests/call_deadline.h"

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

v1::AnsweredBy ToProto(AnsweredBy answered_by) {
  if (answered_by == AnsweredBy::kSharing) return v1::ANSWERED_BY_SHARING;
  return answered_by == AnsweredBy::kCache ? v1::ANSWERED_BY_CACHE : v1::ANSWERED_BY_COMPUTING;
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
  Sink(std::shared_ptr<Call> call, Part* part) : call_(std::move(call)), part_(part) {}
  void OnTokens(std::span<const int32_t> tokens) override { call_->AddTokens(*part_, tokens); }
  void OnDone(JobResult result) override { call_->AddResult(*part_, std::move(result)); }

 private:
  const std::shared_ptr<Call> call_;
  Part* const part_;  // the call's
};

Call::Call(PreparedCall prepared, const CallOrigin& origin, std::shared_ptr<CallListener> listener, Executor* executor,
           CallObserver* observer)
    : prepared_(std::move(prepared)),
      origin_(origin),
      deadline_(DeadlineOfJobs(prepared_, origin_)),
      executor_(executor),
      observer_(observer),
      listener_(std::move(listener)) {}

Call::~Call() = default;

void Call::Start() { Submit(std::move(prepared_.jobs)); }

void Call::Submit(std::vector<PlannedJob> planned) {
  const bool first = parts_.empty();
  const size_t begin = parts_.size();
  std::vector<std::shared_ptr<Job>> jobs;
  {
    const std::lock_guard lock(mutex_);
    for (PlannedJob& job : planned) {
      Part& part = *parts_.emplace_back(std::make_unique<Part>(parts_.size(), prepared_.model->tokenizer()));
      part.source_tokens = job.source_tokens;
      part.truncated = job.truncated;
      part.job = std::make_shared<Job>(JobSpec{.source = std::move(job.source),
                                               .decoding = std::move(job.decoding),
                                               .principal = origin_.principal,
                                               .stream = IsStream(origin_.rpc),
                                               .deadline = deadline_,
                                               .sink = std::make_shared<Sink>(shared_from_this(), &part)});
      // A stream's first tokens; they go out with those that the engine adds.
      if (IsStream(origin_.rpc)) part.incoming = prepared_.answer_prefix;
      if (cancelled_) part.job->Cancel();
      jobs.push_back(part.job);
      size_.source_tokens += part.source_tokens;
    }
    size_.jobs = parts_.size();
  }
  const absl::Status status = first ? prepared_.model->inbox().Submit(jobs, &pass_) : pass_.Submit(jobs);
  if (status.ok()) return;
  for (size_t i = begin; i < parts_.size(); ++i) {
    JobResult refused;
    refused.status = status;
    AddResult(*parts_[i], std::move(refused));
  }
}

void Call::Cancel() {
  const std::lock_guard lock(mutex_);
  if (!cancelled_) cancelled_ = std::chrono::steady_clock::now();
  CancelJobs();
}

void Call::CancelJobs() {
  for (size_t i = first_open_; i < parts_.size(); ++i) {
    if (parts_[i]->job != nullptr) parts_[i]->job->Cancel();
  }
}

void Call::AddTokens(Part& part, std::span<const int32_t> tokens) {
  const std::lock_guard lock(mutex_);
  part.incoming.insert(part.incoming.end(), tokens.begin(), tokens.end());
  Schedule();
}

void Call::AddResult(Part& part, JobResult result) {
  const std::lock_guard lock(mutex_);
  part.result = std::move(result);
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
    // By index: a part that ends may add others.
    for (size_t i = first_open_; i < parts_.size(); ++i) {
      Part& part = *parts_[i];
      if (part.ended || !Collect(part, &tokens, &result)) continue;
      found = true;
      const bool failed = result && !result->status.ok();
      if (!tokens.empty() && error_.ok() && !failed) Stream(part, tokens, false);
      if (result) End(part, *std::exchange(result, std::nullopt));
    }
    if (first_open_ == parts_.size()) return Finish();
    if (found) continue;
    const std::lock_guard lock(mutex_);
    const auto open = parts_.begin() + static_cast<std::ptrdiff_t>(first_open_);
    const bool more = std::any_of(open, parts_.end(), [](const std::unique_ptr<Part>& part) {
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
  longest_queue_seconds_ = std::max(longest_queue_seconds_.value_or(0), result.timings.queue_seconds);
  if (error_.ok()) {
    absl::StatusOr<std::vector<PlannedJob>> more = Advance(part, std::move(result));
    if (!more.ok()) Fail(more.status());
    if (more.ok() && !more->empty()) Submit(*std::move(more));
  }
  part.ended = true;
  part.streamed = {};
  const std::lock_guard lock(mutex_);
  part.job.reset();
  while (first_open_ < parts_.size() && parts_[first_open_]->ended) ++first_open_;
}

absl::StatusOr<std::vector<PlannedJob>> Call::Advance(Part& part, JobResult result) {
  const bool stream = IsStream(origin_.rpc);
  CallEvents* const events = stream ? &events_ : nullptr;
  CallPlan& plan = *prepared_.plan;
  if (!result.status.ok()) {
    const bool in_part = deadline_ && deadline_->end == EndKind::kFinish && absl::IsDeadlineExceeded(result.status);
    const absl::Status status = in_part ? plan.OnExpired(part.index, result.status, events) : result.status;
    if (!status.ok()) return status;
    if (stream) TellEvents();
    return std::vector<PlannedJob>();
  }
  if (result.hypotheses.empty()) return absl::InternalError("the engine ended the request without an answer");
  const std::vector<int32_t>& prefix = prepared_.answer_prefix;
  for (Hypothesis& hypothesis : result.hypotheses) {
    hypothesis.tokens.insert(hypothesis.tokens.begin(), prefix.begin(), prefix.end());
  }
  if (stream) {
    const std::vector<int32_t>& best = result.hypotheses.front().tokens;
    if (part.streamed.size() > best.size() || !std::equal(part.streamed.begin(), part.streamed.end(), best.begin())) {
      return absl::InternalError("the engine took back tokens that were streamed");
    }
    Stream(part, std::span(best).subspan(part.streamed.size()), true);
  }
  CallOutput output = OutputOf(part, result);
  size_.generated_tokens += output.usage->generated_tokens();
  {
    // What follows is made for nobody.
    const std::lock_guard lock(mutex_);
    if (cancelled_) return absl::CancelledError("the client went away");
  }
  absl::StatusOr<std::vector<PlannedJob>> more = plan.OnResult(part.index, std::move(output), events);
  if (stream) TellEvents();
  return more;
}

void Call::TellEvents() {
  if (!first_token_seconds_ && events_.any()) first_token_seconds_ = SecondsSince(origin_.arrived);
  listener_->OnEvents();
}

void Call::Stream(Part& part, std::span<const int32_t> tokens, bool last) {
  part.streamed.insert(part.streamed.end(), tokens.begin(), tokens.end());
  std::string text = part.detokenizer.Push(tokens);
  if (last) text += part.detokenizer.Finish();
  if (tokens.empty() && text.empty()) return;
  prepared_.plan->OnText(part.index, std::move(text), tokens, &events_);
  TellEvents();
}

void Call::Fail(absl::Status error) {
  if (!error_.ok()) return;
  error_ = std::move(error);
  const std::lock_guard lock(mutex_);
  CancelJobs();
}

void Call::Finish() {
  absl::StatusOr<CallAnswer> answer = error_.ok() ? absl::StatusOr<CallAnswer>(Fold()) : error_;
  // Behind Fold, which takes time too.
  if (absl::Status status = FinalStatus(); !status.ok()) answer = std::move(status);
  Report(answer);
  pass_ = {};
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

CallAnswer Call::Fold() {
  CallAnswer answer = prepared_.plan->Fold();
  answer.effective = prepared_.effective;
  answer.salience = prepared_.salience;
  answer.model = prepared_.model->name();
  answer.request_id = prepared_.request_id;
  return answer;
}

CallOutput Call::OutputOf(const Part& part, const JobResult& result) const {
  CallOutput output;
  TokenTexts texts;
  int generated = 0;
  for (const Hypothesis& hypothesis : result.hypotheses) {
    v1::Hypothesis& out = output.hypotheses.emplace_back();
    out.set_text(prepared_.model->tokenizer().Decode(hypothesis.tokens));
    out.mutable_token_ids()->Add(hypothesis.tokens.begin(), hypothesis.tokens.end());
    out.set_score(hypothesis.score);
    if (prepared_.token_logprobs) {
      out.mutable_token_logprobs()->Add(hypothesis.logprobs.begin(), hypothesis.logprobs.end());
    }
    AddTopLogprobs(prepared_.model->tokenizer(), hypothesis, &texts, &out);
    out.set_finish_reason(ToProto(hypothesis.reason, result.deadline_reached));
    generated += static_cast<int>(hypothesis.tokens.size() - prepared_.answer_prefix.size());
  }
  v1::Usage& usage = output.usage.emplace();
  usage.set_source_tokens(part.source_tokens);
  usage.set_truncated(part.truncated);
  usage.set_generated_tokens(generated);
  usage.set_queue_seconds(result.timings.queue_seconds);
  usage.set_encode_seconds(result.timings.encode_seconds);
  usage.set_decode_seconds(result.timings.decode_seconds);
  usage.set_steps(result.timings.steps);
  usage.set_answered_by(ToProto(result.answered_by));
  return output;
}

void Call::Report(const absl::StatusOr<CallAnswer>& answer) const {
  const CallRecord record{.model = prepared_.model->name(),
                          .rpc = origin_.rpc,
                          .outcome = answer.status().code(),
                          .seconds = SecondsSince(origin_.arrived),
                          .first_token_seconds = first_token_seconds_,
                          .longest_queue_seconds = longest_queue_seconds_};
  CallSize size = size_;
  if (!answer.ok()) size.generated_tokens = 0;
  LogCallEnd(prepared_.request_id, record, answer.status(), size);
  observer_->OnCallEnded(record);
}

}  // namespace elserve
