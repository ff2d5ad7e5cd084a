// Feeds an engine with many requests that join and leave between its steps, and keeps what comes back.
#ifndef ELSERVE_TESTS_ENGINE_TRAFFIC_H_
#define ELSERVE_TESTS_ENGINE_TRAFFIC_H_

#include <cstdint>
#include <map>
#include <memory>
#include <ostream>
#include <random>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/engine.h"

namespace elserve {

struct Request {
  std::vector<int32_t> source;
  DecodingSpec decoding;
  // Ended in this way once it has decoded so many steps (0: as soon as it is encoded); -1: left alone.
  int end_after_decode_steps = -1;
  EndKind end = EndKind::kDiscard;
  // Discarded so many steps after its admission, wherever it is then; -1: left alone.
  int discard_after_steps = -1;
};

struct Outcome {
  absl::Status status;
  bool encoded = false;
  bool finished = false;
  int decode_steps = 0;
  std::vector<int32_t> streamed;  // SequenceUpdate::tokens, one after the other
  std::vector<Hypothesis> hypotheses;
};

// Ordinary random tokens of a vocabulary: no special ones.
std::vector<int32_t> RandomSource(int tokens, int vocab, std::mt19937& rng);

// One to three ranges of a source, and an addition, often -infinity.
Salience RandomSalience(int source_tokens, std::mt19937& rng);

// Requests of all kinds that the model takes: 1 to 8 beams, sources and answers of any length up to the two limits,
// all decoding parameters. Ends are left to the caller.
struct RequestLimits {
  int most_source_tokens;
  int most_length;
  int vocab;
};
std::vector<Request> RandomRequests(int count, const RequestLimits& limits, unsigned seed);

// For a decoder-only model: what was a source stands before its prefix, and the lengths grow by it.
void MakeSourcesPrompts(std::vector<Request>* requests);

// Some of the requests are ended: by kFinish or kDiscard after a few decode steps, or discarded at any stage.
void EndSome(std::vector<Request>* requests, unsigned seed);

// One run of requests through an engine that has nothing in flight. Fails the running test (ADD_FAILURE) if a step
// fails, if the engine refuses what fits, reports what cannot be, or if at the end of any step its free memory is not
// exactly what the sequences in flight leave.
class Traffic {
 public:
  Traffic(Engine* engine, std::span<const Request> requests);

  // Admits the requests in the order of `order` (indices), up to `joins_per_step` a step and as memory allows, and
  // steps until all have ended. The outcome of request i is at place i.
  std::vector<Outcome> Run(std::span<const size_t> order, int joins_per_step);
  // Before Run: keep a copy of every step's plan in `plans`.
  void Record(std::vector<StepPlan>* plans) { record_ = plans; }
  int most_in_flight() const { return most_in_flight_; }
  int steps() const { return steps_; }

 private:
  // What a request takes beside those in `documents`, where its own is put.
  Resources Take(size_t request, std::set<size_t>* documents) const;
  void PlanEnds(StepPlan* plan);
  void PlanAdmissions(int joins, StepPlan* plan);
  void Take(SequenceUpdate& update);
  bool Sound(const StepResult& result) const;

  Engine* engine_;
  std::span<const Request> requests_;
  std::vector<size_t> documents_;  // of each request: equal numbers share one
  std::vector<size_t> waiting_;
  std::map<size_t, int> flights_;  // by request: steps since its admission
  std::vector<Outcome> outcomes_;
  uint64_t first_id_;
  std::vector<StepPlan>* record_ = nullptr;
  int most_in_flight_ = 0, steps_ = 0;
};

// All requests at once, in a random order.
std::vector<Outcome> RunTogether(Engine* engine, std::span<const Request> requests, int joins_per_step, unsigned seed,
                                 int* most_in_flight = nullptr);
// Each request with nothing else in the engine.
std::vector<Outcome> RunAlone(Engine* engine, std::span<const Request> requests);

// Where two outcomes differ in any bit of tokens, scores or log-probabilities, or in what was streamed; empty if not.
std::string BitDifference(const Outcome& a, const Outcome& b);

// The devices of this build that are there: kCpu, kCuda.
const std::vector<DeviceKind>& Devices();

// Float32 or bfloat16, el or kv, on each device: what most tests are run with.
struct Variant {
  Precision precision;
  AttentionForms attention;
  DeviceKind device = DeviceKind::kCpu;
  bool int8_memory = false;
};
std::vector<Variant> Variants();
void PrintTo(const Variant& variant, std::ostream* out);  // "bfloat16_el", "cuda_bfloat16_el"

// With room for little unless the test says otherwise.
EngineOptions OptionsFor(std::string checkpoint, const Variant& variant, ThreadPool* pool);

// Loads an engine or fails the running test and returns null.
std::unique_ptr<Engine> LoadEngine(const EngineOptions& options);

// Directories of checkpoints: "bart-odd" (golden, tiny, heads of even width) and the embedded model.
std::string TinyCheckpoint();
std::string SynopsisCheckpoint();

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_TRAFFIC_H_
