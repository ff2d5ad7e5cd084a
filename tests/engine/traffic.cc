#include "tests/engine/traffic.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#if ELSERVE_TEST_CPU
#include "engine/backend/cpu/make_cpu_backend.h"
#endif
#if ELSERVE_TEST_CUDA
#include "tests/engine/backend/cuda/cuda_under_test.h"
#endif

namespace elserve {
namespace {

// An engine sees no id twice in its life; tests run many times through one engine, and several engines in threads.
uint64_t TakeIds(size_t count) {
  static std::atomic<uint64_t> next = 1;
  return next.fetch_add(count);
}

int Pick(std::initializer_list<int> values, std::mt19937& rng) { return values.begin()[rng() % values.size()]; }

int Between(int low, int high, std::mt19937& rng) { return low + static_cast<int>(rng() % (high - low + 1)); }

template <typename Value>
bool SameBits(const std::vector<Value>& a, const std::vector<Value>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Value)) == 0);
}

DecodingSpec RandomDecoding(const RequestLimits& limits, std::mt19937& rng) {
  DecodingSpec d;
  d.num_beams = Between(1, 8, rng);
  d.num_return_sequences = Between(1, d.num_beams, rng);
  d.length_penalty = static_cast<float>(Pick({-1, 0, 1, 1, 2}, rng));
  d.early_stopping = static_cast<EarlyStopping>(Pick({0, 0, 1, 2}, rng));
  d.max_length = Between(2, limits.most_length, rng);
  if (rng() % 4 == 0) d.min_length = Between(0, d.max_length, rng);
  if (rng() % 4 == 0) d.min_new_tokens = Between(0, d.max_length / 2, rng);
  d.no_repeat_ngram_size = Pick({0, 0, 1, 2, 3}, rng);
  d.prefix = {2};
  if (rng() % 5 == 0) d.forced_bos_token_id = Between(5, limits.vocab - 1, rng);
  if (rng() % 5 == 0) d.forced_eos_token_id = {2};
  if (rng() % 6 != 0) d.eos_token_id = {2};
  if (rng() % 4 == 0) {
    const int stride = std::min(20, (limits.vocab - 10) / 3);
    for (int i = 0; i < 3; ++i) d.eos_token_id.push_back(10 + stride * i + static_cast<int>(rng() % stride));
  }
  return d;
}

}  // namespace

std::vector<int32_t> RandomSource(int tokens, int vocab, std::mt19937& rng) {
  std::vector<int32_t> source(tokens);
  for (int32_t& token : source) token = Between(5, vocab - 1, rng);
  return source;
}

Salience RandomSalience(int source_tokens, std::mt19937& rng) {
  Salience salience;
  for (int begin = Between(0, source_tokens - 1, rng), i = 0; begin < source_tokens && i < 3; ++i) {
    const int end = Between(begin + 1, source_tokens, rng);
    salience.tokens.push_back({.begin = begin, .end = end});
    begin = end + Between(1, 20, rng);
  }
  salience.addition =
      rng() % 2 == 0 ? -std::numeric_limits<float>::infinity() : -0.5f * static_cast<float>(Between(1, 8, rng));
  return salience;
}

std::vector<Request> RandomRequests(int count, const RequestLimits& limits, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<Request> requests(count);
  for (Request& request : requests) {
    // Lengths around the end of a page (64), and any other.
    const int any = Between(1, limits.most_source_tokens, rng);
    const int length = std::min(limits.most_source_tokens, Pick({1, 2, 63, 64, 65, any, any, any, any, any}, rng));
    request.source = RandomSource(length, limits.vocab, rng);
    request.decoding = RandomDecoding(limits, rng);
  }
  for (Request& request : requests) {
    if (rng() % 6 == 0) {
      request.decoding.bad_words_ids = {RandomSource(1, limits.vocab, rng), RandomSource(2, limits.vocab, rng)};
    }
    request.decoding.renormalize_logits = rng() % 6 == 0;
  }
  for (Request& request : requests) {
    DecodingSpec& d = request.decoding;
    if (rng() % 6 == 0) d.repetition_penalty = 0.5f + 0.25f * static_cast<float>(rng() % 7);
    if (rng() % 8 == 0) d.encoder_repetition_penalty = 0.5f + 0.25f * static_cast<float>(rng() % 7);
    if (rng() % 8 == 0) d.encoder_no_repeat_ngram_size = Between(1, 3, rng);
    for (int i = 0; rng() % 4 == 0; ++i) {
      d.biased_sequences.Add(RandomSource(1 + i % 2, limits.vocab, rng));
      d.sequence_bias.push_back(static_cast<float>(Between(-8, 8, rng)));
    }
    if (rng() % 8 == 0) {
      d.exponential_decay_length_penalty = {.start_index = Between(0, 5, rng), .factor = Pick({1, 3}, rng) / 2.0};
    }
    if (rng() % 8 == 0) d.suppress_tokens = RandomSource(Between(1, 9, rng), limits.vocab, rng);
    if (rng() % 8 == 0) d.begin_suppress_tokens = RandomSource(Between(1, 9, rng), limits.vocab, rng);
  }
  for (Request& request : requests) {
    DecodingSpec& d = request.decoding;
    d.remove_invalid_values = rng() % 12 == 0;
    if (d.num_beams % 2 == 0 && rng() % 3 == 0) {
      d.num_beam_groups = d.num_beams % 4 == 0 ? Pick({2, 4}, rng) : 2;
      d.diversity_penalty = 0.5f * static_cast<float>(Between(1, 6, rng));
      d.pad_token_id = 1;
    }
    if (rng() % 4 != 0) continue;
    d.do_sample = true;
    d.num_beams = d.num_beam_groups = 1;
    d.sampling = {.temperature = 0.5f + 0.5f * static_cast<float>(rng() % 4),
                  .top_h = Pick({0, 0, 0, 1}, rng) / 2.0,
                  .top_k = Pick({0, 3, 50, 50, 64, 100}, rng),
                  .top_p = Pick({10, 10, 9, 5}, rng) / 10.0,
                  .min_p = Pick({0, 0, 1}, rng) / 50.0,
                  .typical_p = Pick({10, 10, 8}, rng) / 10.0,
                  .epsilon_cutoff = Pick({0, 0, 1}, rng) / 500.0,
                  .eta_cutoff = Pick({0, 0, 1}, rng) / 500.0,
                  .seed = rng()};
  }
  for (Request& request : requests) {
    // Answers that begin with something, and tokens that are only scored.
    DecodingSpec& d = request.decoding;
    if (rng() % 3 != 0 || d.max_length < 4) continue;
    const std::vector<int32_t> more = RandomSource(Between(1, d.max_length - 2, rng), limits.vocab, rng);
    d.prefix.insert(d.prefix.end(), more.begin(), more.end());
    if (rng() % 3 != 0) continue;
    d.max_length = static_cast<int>(d.prefix.size());
    d.score_from = Between(1, d.max_length - 1, rng);
    d.num_beams = d.num_beam_groups = d.num_return_sequences = 1;
    d.do_sample = d.remove_invalid_values = false;
  }
  for (Request& request : requests) {
    if (request.decoding.score_from == 0 && rng() % 6 == 0) {
      request.decoding.top_logprobs = Between(1, kMaxTopLogprobs, rng);
    }
  }
  for (Request& request : requests) {
    if (rng() % 5 == 0) request.decoding.salience = RandomSalience(static_cast<int>(request.source.size()), rng);
  }
  return requests;
}

void MakeSourcesPrompts(std::vector<Request>* requests) {
  for (Request& request : *requests) {
    std::vector<int32_t>& prefix = request.decoding.prefix;
    const auto length = static_cast<int>(request.source.size());
    prefix.insert(prefix.begin(), request.source.begin(), request.source.end());
    request.source.clear();
    request.decoding.salience = {};
    request.decoding.max_length += length;
    if (request.decoding.score_from > 0) request.decoding.score_from += length;
  }
}

void EndSome(std::vector<Request>* requests, unsigned seed) {
  std::mt19937 rng(seed);
  for (Request& request : *requests) {
    switch (rng() % 8) {
      case 0:
        request.end_after_decode_steps = Between(0, request.decoding.max_length - 1, rng);
        request.end = EndKind::kFinish;
        break;
      case 1:
        request.end_after_decode_steps = Between(0, request.decoding.max_length - 1, rng);
        break;
      case 2:
        request.discard_after_steps = Between(1, 6, rng);
        break;
      default:
        break;
    }
  }
}

Traffic::Traffic(Engine* engine, std::span<const Request> requests)
    : engine_(engine), requests_(requests), outcomes_(requests.size()), first_id_(TakeIds(requests.size())) {
  std::map<std::vector<int32_t>, size_t> seen;
  for (size_t i = 0; i < requests.size(); ++i) {
    documents_.push_back(engine->info().encoder_cache ? seen.try_emplace(requests[i].source, i).first->second : i);
  }
}

Resources Traffic::Take(size_t request, std::set<size_t>* documents) const {
  const Request& r = requests_[request];
  absl::StatusOr<Resources> taken = engine_->Measure({static_cast<int>(r.source.size()), &r.decoding});
  if (!taken.ok()) {
    ADD_FAILURE() << "request " << request << ": " << taken.status();
    return {};
  }
  if (!documents->insert(documents_[request]).second) taken->encoder_pages = 0;
  return *taken;
}

void Traffic::PlanEnds(StepPlan* plan) {
  for (auto it = flights_.begin(); it != flights_.end();) {
    const auto& [index, steps] = *it;
    const Request& request = requests_[index];
    const Outcome& outcome = outcomes_[index];
    const bool early = request.discard_after_steps >= 0 && steps >= request.discard_after_steps;
    const bool due = request.end_after_decode_steps >= 0 && outcome.encoded &&
                     outcome.decode_steps >= request.end_after_decode_steps;
    const EndKind kind = early ? EndKind::kDiscard : request.end;
    if (early || due) plan->ends.push_back({first_id_ + index, kind});
    // Of what is discarded nothing is heard any more.
    it = (early || due) && kind == EndKind::kDiscard ? flights_.erase(it) : std::next(it);
  }
}

void Traffic::PlanAdmissions(int joins, StepPlan* plan) {
  Resources free = engine_->info().capacity;  // what it will be after the ends
  std::set<size_t> documents;
  for (const auto& [index, steps] : flights_) {
    const bool ends = std::any_of(plan->ends.begin(), plan->ends.end(),
                                  [&, id = first_id_ + index](const EndSequence& end) { return end.id == id; });
    if (!ends) free -= Take(index, &documents);
  }
  for (; joins-- > 0 && !waiting_.empty(); waiting_.pop_back()) {
    const size_t index = waiting_.back();
    const Request& request = requests_[index];
    const Resources needed = Take(index, &documents);
    if (!needed.Fits(free)) return;
    free -= needed;
    flights_[index] = 0;
    plan->admissions.push_back({first_id_ + index, request.source, request.decoding, /*stream=*/true});
  }
}

void Traffic::Take(SequenceUpdate& update) {
  const size_t index = update.id - first_id_;
  const auto flight = flights_.find(index);
  if (flight == flights_.end()) {
    ADD_FAILURE() << "an update of a sequence that is not in flight";
    return;
  }
  Outcome& outcome = outcomes_[index];
  if (update.encoded) {
    EXPECT_FALSE(outcome.encoded) << "encoded twice";
    outcome.encoded = true;
  }
  if (update.decoded_rows > 0) {
    EXPECT_TRUE(outcome.encoded) << "decoded before it was encoded";
    EXPECT_LE(update.decoded_rows, requests_[index].decoding.most_rows());
    ++outcome.decode_steps;
  }
  outcome.streamed.insert(outcome.streamed.end(), update.tokens.begin(), update.tokens.end());
  outcome.status = update.status;
  if (update.finished) {
    outcome.finished = true;
    outcome.hypotheses = update.hypotheses;
  }
  if (update.finished || !update.status.ok()) flights_.erase(flight);
}

bool Traffic::Sound(const StepResult& result) const {
  Resources expected = engine_->info().capacity;
  std::set<size_t> documents;
  for (const auto& [index, steps] : flights_) expected -= Take(index, &documents);
  EXPECT_EQ(result.sequences, static_cast<int>(flights_.size()));
  EXPECT_EQ(result.idle, flights_.empty());
  EXPECT_LE(result.rows, engine_->info().capacity.rows);
  EXPECT_TRUE(engine_->free() == expected) << "free memory is not what the sequences in flight leave";
  return !testing::Test::HasFailure();
}

std::vector<Outcome> Traffic::Run(std::span<const size_t> order, int joins_per_step) {
  waiting_.assign(order.rbegin(), order.rend());
  StepResult result;
  while (!waiting_.empty() || !flights_.empty()) {
    StepPlan plan;
    PlanEnds(&plan);
    PlanAdmissions(joins_per_step, &plan);
    if (flights_.empty() && plan.ends.empty() && !waiting_.empty()) {
      ADD_FAILURE() << "nothing is in flight and nothing fits";
      break;
    }
    if (record_) record_->push_back(plan);
    if (absl::Status status = engine_->Step(plan, &result); !status.ok()) {
      ADD_FAILURE() << "Step: " << status;
      break;
    }
    ++steps_;
    most_in_flight_ = std::max(most_in_flight_, static_cast<int>(flights_.size()));
    for (auto& [index, steps] : flights_) ++steps;
    for (SequenceUpdate& update : result.updates) Take(update);
    if (!Sound(result)) break;
  }
  return std::move(outcomes_);
}

std::vector<Outcome> RunTogether(Engine* engine, std::span<const Request> requests, int joins_per_step, unsigned seed,
                                 int* most_in_flight) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  Traffic traffic(engine, requests);
  std::vector<Outcome> outcomes = traffic.Run(order, joins_per_step);
  if (most_in_flight) *most_in_flight = traffic.most_in_flight();
  return outcomes;
}

std::vector<Outcome> RunAlone(Engine* engine, std::span<const Request> requests) {
  std::vector<Outcome> outcomes;
  for (size_t i = 0; i < requests.size() && !testing::Test::HasFailure(); ++i) {
    Traffic traffic(engine, requests.subspan(i, 1));
    const size_t first = 0;
    outcomes.push_back(traffic.Run({&first, 1}, 1)[0]);
  }
  outcomes.resize(requests.size());
  return outcomes;
}

std::string BitDifference(const Outcome& a, const Outcome& b) {
  if (a.status != b.status) return absl::StrCat(a.status.ToString(), " and ", b.status.ToString());
  if (a.finished != b.finished) return "one finished";
  if (a.decode_steps != b.decode_steps) return absl::StrCat(a.decode_steps, " and ", b.decode_steps, " decode steps");
  if (a.streamed != b.streamed)
    return absl::StrCat("streamed ", absl::StrJoin(a.streamed, " "), " and ", absl::StrJoin(b.streamed, " "));
  if (a.hypotheses.size() != b.hypotheses.size())
    return absl::StrCat(a.hypotheses.size(), " and ", b.hypotheses.size(), " hypotheses");
  for (size_t i = 0; i < a.hypotheses.size(); ++i) {
    const Hypothesis &x = a.hypotheses[i], &y = b.hypotheses[i];
    const std::string place = absl::StrCat("hypothesis ", i, ": ");
    if (x.tokens != y.tokens)
      return absl::StrCat(place, "tokens ", absl::StrJoin(x.tokens, " "), " and ", absl::StrJoin(y.tokens, " "));
    if (x.reason != y.reason) return place + "different reasons";
    if (!SameBits(std::vector{x.score}, std::vector{y.score}))
      return absl::StrFormat("%sscores %.9g and %.9g", place, x.score, y.score);
    if (!SameBits(x.logprobs, y.logprobs)) return place + "different bits of log-probabilities";
    if (!SameBits(x.alternatives, y.alternatives)) return place + "different alternatives";
  }
  return "";
}

const std::vector<DeviceKind>& Devices() {
  static const auto* const devices = [] {
    auto* const found = new std::vector<DeviceKind>;
#if ELSERVE_TEST_CPU
    found->push_back(DeviceKind::kCpu);
#endif
#if ELSERVE_TEST_CUDA
    if (CudaIsUnderTest()) found->push_back(DeviceKind::kCuda);
#endif
    return found;
  }();
  return *devices;
}

bool HasInt8() {
#if ELSERVE_TEST_CPU
  ThreadPool pool(1);
  const auto backend = MakeCpuBackend({.state_type = DataType::kBFloat16, .pool = &pool});
  return backend.ok() && (*backend)->has_int8();
#else
  return false;
#endif
}

std::vector<Variant> Variants() {
  std::vector<Variant> variants;
  for (const DeviceKind device : Devices()) {
    for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
      for (const AttentionForms attention : {kAllEl, kAllKv}) {
        variants.push_back({precision, attention, device});
      }
    }
  }
  if (HasInt8()) {
    variants.push_back({Precision::kInt8, kAllEl, DeviceKind::kCpu});
    variants.push_back({Precision::kInt8, kAllEl, DeviceKind::kCpu, /*int8_memory=*/true});
    variants.push_back({Precision::kBFloat16, kAllEl, DeviceKind::kCpu, /*int8_memory=*/true});
  }
  return variants;
}

void PrintTo(const Variant& variant, std::ostream* out) {
  *out << (variant.device == DeviceKind::kCuda ? "cuda_" : "") << ToString(variant.precision) << "_"
       << ToString(variant.attention) << (variant.int8_memory ? "_in_int8" : "");
}

EngineOptions OptionsFor(std::string checkpoint, const Variant& variant, ThreadPool* pool) {
  EngineOptions options;
  options.checkpoint = std::move(checkpoint);
  options.device = variant.device;
  options.precision = variant.precision;
  options.int8_memory = variant.int8_memory;
  options.attention = variant.attention;
  options.max_rows = 24;
  options.encoder_memory_tokens = 1024;
  options.decoder_memory_tokens = 1024;
  options.encode_tokens_per_step = 90;
  options.pool = pool;
  return options;
}

std::unique_ptr<Engine> LoadEngine(const EngineOptions& options) {
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Load(options);
  if (!engine.ok()) {
    ADD_FAILURE() << engine.status();
    return nullptr;
  }
  return *std::move(engine);
}

std::string TinyCheckpoint() { return ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-odd"; }
std::string SynopsisCheckpoint() { return ELSERVE_SOURCE_DIR "/models/debian-synopsis"; }

}  // namespace elserve
