// One request on its way through the engine: its jobs, what they report, and the one answer that they make.
#ifndef ELSERVE_SERVER_REQUESTS_CALL_H_
#define ELSERVE_SERVER_REQUESTS_CALL_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/decoding.h"
#include "proto/elserve/v1/elserve.pb.h"
#include "server/requests/call_observer.h"
#include "server/requests/executor.h"
#include "server/requests/served_model.h"
#include "server/scheduling/job.h"
#include "server/text/detokenizer.h"
#include "server/text/prompts.h"

namespace elserve {

// A request that was checked and tokenized; what is left is the engine's.
struct PreparedCall {
  struct Job {
    std::vector<int32_t> source;  // token ids, special tokens included; of a decoder-only model none
    bool truncated = false;
    // Of Score: what the decoder is fed, and the first token that is scored. Empty: `decoding` has it.
    std::vector<int32_t> prefix = {};
    int score_from = 0;
  };
  struct Question {
    std::string answer_text;
    Span answer_span;
  };

  std::shared_ptr<const ServedModel> model;
  std::string request_id;
  std::vector<Job> jobs;            // at least one
  std::vector<Question> questions;  // of GenerateQuestions: one for each job; else empty
  DecodingSpec decoding;            // of all jobs; of a decoder-only model there is one, and its prompt is the prefix
  // What all hypotheses begin with: decoding.prefix without the start token, or without the prompt.
  std::vector<int32_t> answer_prefix;
  v1::DecodingParameters effective;
  bool token_logprobs = false;
  bool best_so_far = false;  // on_deadline: answer shortly before the client's deadline with what there is

  // Of a job whose source has so many; of a decoder-only model those of the prompt, which all jobs have.
  int SourceTokens(size_t source) const {
    return static_cast<int>(model->info().decoder_only ? decoding.prefix.size() : source);
  }
};

// Where a request came from.
struct CallOrigin {
  Rpc rpc = Rpc::kGenerate;
  TimePoint arrived;
  std::optional<TimePoint> deadline;  // the client's, up to which gRPC waits; none: as long as it takes
};

// New text of one job's answer that nothing will take back.
struct CallDelta {
  int job = 0;
  std::string text;
  std::vector<int32_t> tokens;
};

// The answers of all jobs, in order.
struct CallAnswer {
  struct Job {
    std::vector<v1::Hypothesis> hypotheses;  // best first
    v1::Usage usage;
  };
  std::vector<Job> jobs;
  std::vector<PreparedCall::Question> questions;
  v1::DecodingParameters effective;
  std::string model;
  std::string request_id;
};

// Who waits for a call. Its methods are called on the executor's threads, one after the other, and must return soon.
class CallListener {
 public:
  virtual ~CallListener() = default;
  // Streams: TakeDelta has something to give.
  virtual void OnDeltas() = 0;
  // The last word, exactly once. What TakeDelta still holds belongs before it. A stream's deltas join to text and
  // token_ids of the first hypothesis of their job.
  virtual void OnAnswer(absl::StatusOr<CallAnswer> answer) = 0;
};

// Submits its jobs, turns their tokens into text on the executor and folds their results. The first job that fails
// fails the call and cancels the other jobs. Thread-safe.
//
// Memory is bounded by the answer: deltas that nobody takes are joined, so a reader who is slow, or never reads, keeps
// one answer's worth of text and nothing more.
class Call : public std::enable_shared_from_this<Call> {
 public:
  // `executor` and `observer` must outlive the call; the observer has been told of its start.
  Call(PreparedCall prepared, const CallOrigin& origin, std::shared_ptr<CallListener> listener, Executor* executor,
       CallObserver* observer);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Once. The listener hears of everything from here on, refusals of the model's queue included.
  void Start();
  // The client waits no longer: ends the call with CANCELLED, or DEADLINE_EXCEEDED where its deadline is the reason;
  // nothing if it is done. From any thread, at any time, also before Start.
  void Cancel();
  // Streams: what came since the last one, of one job; nullopt: nothing now.
  std::optional<CallDelta> TakeDelta();

  const std::string& request_id() const { return prepared_.request_id; }

 private:
  class Sink;
  // One job's side of the call.
  struct Part {
    explicit Part(const Tokenizer& tokenizer) : detokenizer(tokenizer.NewDetokenizer()) {}
    std::shared_ptr<Job> job;

    // Guarded by mutex_: what the engine's thread left.
    std::vector<int32_t> incoming;
    std::optional<JobResult> result;
    // Guarded by mutex_: what the listener did not take yet.
    CallDelta delta;

    // The task's alone.
    Detokenizer detokenizer;
    std::vector<int32_t> streamed;  // tokens given out
    std::optional<JobResult> ended;
  };

  // The engine's thread.
  void AddTokens(size_t part, std::span<const int32_t> tokens);
  void AddResult(size_t part, JobResult result);

  void Schedule();  // mutex_ held
  // The task: one at a time.
  void Work();
  // Takes what the engine's thread left at the part; false: nothing.
  bool Collect(Part& part, std::vector<int32_t>* tokens, std::optional<JobResult>* result);
  void End(Part& part, JobResult result);
  void Stream(Part& part, std::span<const int32_t> tokens, bool last);
  void Fail(absl::Status error);
  void Finish();
  absl::Status FinalStatus();
  CallAnswer Fold() const;
  CallAnswer::Job FoldJob(const Part& part, bool truncated) const;
  void Report(const absl::StatusOr<CallAnswer>& answer) const;

  PreparedCall prepared_;  // Start moves the sources out; constant otherwise
  const CallOrigin origin_;
  Executor* const executor_;
  CallObserver* const observer_;
  std::vector<std::unique_ptr<Part>> parts_;

  std::mutex mutex_;
  // Guarded by mutex_.
  std::optional<TimePoint> cancelled_;
  bool scheduled_ = false;  // a task is queued or runs
  size_t next_delta_ = 0;   // where TakeDelta looks first, so that no job waits for another

  // The task's alone.
  std::shared_ptr<CallListener> listener_;  // null once it had the last word
  absl::Status error_;
  size_t ended_parts_ = 0;
  std::optional<double> first_token_seconds_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_CALL_H_
