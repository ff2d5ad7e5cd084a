// What the tests of scheduling drive instead of a model: an engine whose sequences last as long as their parameters
// say, and a sink that remembers.
#ifndef ELSERVE_TESTS_SERVER_SCHEDULING_FAKE_ENGINE_H_
#define ELSERVE_TESTS_SERVER_SCHEDULING_FAKE_ENGINE_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "gtest/gtest.h"
#include "server/scheduling/job.h"

namespace elserve {

// Something that happens once. Of the standard library's parts alone, so that the thread sanitizer sees what it orders.
class Event {
 public:
  void Happen() {
    std::lock_guard lock(mutex_);
    happened_ = true;
    changed_.notify_all();
  }
  void Wait() const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return happened_; });
  }
  bool happened() const {
    std::lock_guard lock(mutex_);
    return happened_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool happened_ = false;
};

// Sequences are encoded in the step that admits them, then decode one token a step: seed, seed + 1, seed + 2, ... until
// max_length less the prefix are there. The parameters say what a sequence takes: rows = num_beams, encoder_pages =
// source tokens / 64 rounded up, decoder_blocks = min_length, edits = no_repeat_ngram_size. Equal sources in flight
// take their pages once, unless `encoder_cache` is false. Plans that break the engine's contract fail the test.
class FakeEngine : public Engine {
 public:
  explicit FakeEngine(const Resources& capacity, bool encoder_cache = true) : free_(capacity) {
    info_.capacity = capacity;
    info_.encoder_cache = encoder_cache;
  }

  const ModelInfo& info() const override { return info_; }

  absl::StatusOr<Resources> Measure(const SequenceSpec& spec) const override {
    const Resources resources{.rows = spec.decoding->num_beams,
                              .encoder_pages = (spec.source_tokens + 63) / 64,
                              .decoder_blocks = spec.decoding->min_length,
                              .edits = spec.decoding->no_repeat_ngram_size};
    if (!resources.Fits(info_.capacity)) {
      return absl::InvalidArgumentError(absl::StrCat("num_beams: ", spec.decoding->num_beams, " never fits"));
    }
    return resources;
  }

  Resources free() const override { return free_; }

  absl::Status Step(const StepPlan& plan, StepResult* result) override {
    if (on_step) on_step();
    if (fail_steps) return absl::InternalError("the device fell off the bus");
    *result = StepResult();
    ++steps;
    for (const EndSequence& end : plan.ends) {
      const auto it = sequences_.find(end.id);
      EXPECT_TRUE(it != sequences_.end()) << "ended a sequence that is not in flight";
      if (it == sequences_.end()) continue;
      if (end.kind != EndKind::kDiscard) result->updates.push_back(Answer(it->second));
      if (end.kind == EndKind::kReport) {
        result->updates.back().finished = false;
      } else {
        Remove(it);
      }
    }
    for (const Admission& admission : plan.admissions) Admit(admission);
    for (auto it = sequences_.begin(); it != sequences_.end();) it = Advance(it, UpdateOf(it->first, result), result);
    result->times = {.encode = 1, .decode = 2, .select = 3, .search = 4};
    result->sequences = static_cast<int>(sequences_.size());
    result->idle = sequences_.empty();
    result->encoder_cache = counts_;
    return absl::OkStatus();
  }

  size_t in_flight() const { return sequences_.size(); }

  int steps = 0;
  std::function<void()> on_step;                           // called from Step, first
  bool fail_steps = false;                                 // Step fails from now on
  std::set<SequenceId> failing;                            // these fail alone when they would decode
  std::function<void(std::vector<int32_t>*)> on_finished;  // may change the tokens of an answer

 private:
  struct Sequence {
    Admission admission;
    Resources resources;  // but for encoder_pages
    bool encoded = false;
    std::vector<int32_t> tokens;
  };
  using Sequences = std::map<SequenceId, Sequence>;

  void Admit(const Admission& admission) {
    EXPECT_TRUE(seen_.insert(admission.id).second) << "an id was used twice";
    Resources resources =
        *Measure({.source_tokens = static_cast<int>(admission.source.size()), .decoding = &admission.decoding});
    const int64_t pages = std::exchange(resources.encoder_pages, 0);
    const int users = users_[admission.source]++;
    if (users == 0 || !info_.encoder_cache) free_.encoder_pages -= pages;
    if (info_.encoder_cache) ++(users == 0 ? counts_.misses : counts_.hits);
    free_ -= resources;
    EXPECT_TRUE(Resources().Fits(free_)) << "admitted more than there is room for";
    sequences_[admission.id] = {.admission = admission, .resources = resources, .encoded = false, .tokens = {}};
  }

  // The sequence's update of this step, which holds a report where one was asked for.
  static SequenceUpdate* UpdateOf(SequenceId id, StepResult* result) {
    const auto same = [id](const SequenceUpdate& update) { return update.id == id; };
    const auto it = std::find_if(result->updates.begin(), result->updates.end(), same);
    if (it != result->updates.end()) return &*it;
    result->updates.emplace_back().id = id;
    return &result->updates.back();
  }

  Sequences::iterator Advance(Sequences::iterator it, SequenceUpdate* update, StepResult* result) {
    Sequence& sequence = it->second;
    if (failing.contains(it->first) && sequence.encoded) {
      update->status = absl::InternalError("non-finite logits");
      return Remove(it);
    }
    if (!sequence.encoded) {
      sequence.encoded = update->encoded = true;
      result->encoded_tokens += static_cast<int>(sequence.admission.source.size());
      return std::next(it);
    }
    const DecodingSpec& decoding = sequence.admission.decoding;
    const auto made = static_cast<int>(sequence.tokens.size());
    sequence.tokens.push_back(static_cast<int32_t>(decoding.sampling.seed) + made);
    const bool last = made + 1 + static_cast<int>(decoding.prefix.size()) >= decoding.max_length;
    if (last) *update = Answer(sequence);
    update->decoded_rows = decoding.num_beams;
    result->rows += decoding.num_beams;
    ++result->documents;
    if (sequence.admission.stream) update->tokens = {sequence.tokens.back()};
    return last ? Remove(it) : std::next(it);
  }

  SequenceUpdate Answer(const Sequence& sequence) const {
    SequenceUpdate update;
    update.id = sequence.admission.id;
    update.finished = true;
    if (!sequence.tokens.empty()) {
      Hypothesis hypothesis;
      hypothesis.tokens = sequence.tokens;
      hypothesis.logprobs.assign(sequence.tokens.size(), -1.0f);
      // The token, and those with the ids that follow.
      for (const int32_t token : sequence.tokens) {
        for (int rank = 0; rank < sequence.admission.decoding.top_logprobs; ++rank) {
          hypothesis.alternatives.push_back({token + rank, static_cast<float>(-1 - rank)});
        }
      }
      if (on_finished) on_finished(&hypothesis.tokens);
      update.hypotheses.push_back(std::move(hypothesis));
    }
    return update;
  }

  Sequences::iterator Remove(Sequences::iterator it) {
    free_ += it->second.resources;
    const std::vector<int32_t>& source = it->second.admission.source;
    const int users = --users_[source];
    if (users == 0 || !info_.encoder_cache) free_.encoder_pages += (static_cast<int64_t>(source.size()) + 63) / 64;
    return sequences_.erase(it);
  }

  ModelInfo info_;
  Resources free_;
  Sequences sequences_;
  std::map<std::vector<int32_t>, int> users_;  // of each source
  EncoderCacheCounts counts_;
  std::set<SequenceId> seen_;
};

// Remembers what it was told; fails the test when it is told anything after the end.
class RecordingSink : public ResponseSink {
 public:
  void OnTokens(std::span<const int32_t> tokens) override {
    EXPECT_FALSE(done.happened()) << "tokens after the end";
    streamed.insert(streamed.end(), tokens.begin(), tokens.end());
    if (on_tokens) on_tokens();
  }
  void OnDone(JobResult done_result) override {
    ASSERT_FALSE(done.happened()) << "a second end";
    result = std::move(done_result);
    if (on_done) on_done();
    done.Happen();
  }

  const JobResult& Wait() {
    done.Wait();
    return result;
  }
  bool is_done() const { return done.happened(); }

  std::vector<int32_t> streamed;
  JobResult result;
  Event done;
  std::function<void()> on_tokens, on_done;
};

struct TestJob {
  std::shared_ptr<RecordingSink> sink;
  std::shared_ptr<Job> job;
};

// What a test's job takes and how long it lasts; see FakeEngine.
struct JobShape {
  int rows = 1;
  int tokens = 3;  // generated; the job is in flight for one step more
  int source_tokens = 64;
  int document = 0;  // equal ones of a length have equal sources; 0: a source of its own
  int blocks = 0;
  int edits = 0;
  int question = 0;   // jobs of one, and of equal shapes, are equal, their source included; 0: equal to none
  uint64_t seed = 0;  // the first token
  std::string principal = "";
  bool stream = false;
  std::optional<TimePoint> deadline = std::nullopt;
  EndKind at_deadline = EndKind::kFinish;
};

inline constexpr int kEndless = 1 << 30;

inline TestJob MakeJob(const JobShape& shape) {
  TestJob made;
  made.sink = std::make_shared<RecordingSink>();
  JobSpec spec;
  static std::atomic<int> last{-1};
  const int question = shape.question != 0 ? shape.question : last--;
  spec.source.assign(static_cast<size_t>(shape.source_tokens), shape.document != 0 ? shape.document : question);
  spec.decoding.pad_token_id = question;  // nothing here reads it
  spec.decoding.num_beams = shape.rows;
  spec.decoding.max_length = shape.tokens + 1;
  spec.decoding.min_length = shape.blocks;
  spec.decoding.no_repeat_ngram_size = shape.edits;
  spec.decoding.sampling.seed = shape.seed;
  spec.principal = shape.principal;
  spec.stream = shape.stream;
  if (shape.deadline) spec.deadline = {.at = *shape.deadline, .end = shape.at_deadline, .name = "the time"};
  spec.sink = made.sink;
  made.job = std::make_shared<Job>(std::move(spec));
  return made;
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_SERVER_SCHEDULING_FAKE_ENGINE_H_
