// The engine answers as transformers does, token for token in float32: every golden case, many in flight together, on
// each device and in both forms of attention.
#include <algorithm>
#include <iterator>
#include <memory>
#include <numeric>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_join.h"
#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "gtest/gtest.h"
#include "tests/golden/golden_cases.h"
#ifdef ELSERVE_TEST_CUDA
#include "tests/engine/backend/cuda/cuda_under_test.h"
#endif

namespace elserve {
namespace {

constexpr AttentionForms kElCross = {AttentionForm::kEl, AttentionForm::kKv};
constexpr AttentionForms kElSelf = {AttentionForm::kKv, AttentionForm::kEl};

// An emulated device is slow: it has some of the cases of the tiny checkpoints.
#if ELSERVE_TEST_CUDA_EMULATED
constexpr size_t kEvery = 20;
#else
constexpr size_t kEvery = 1;
#endif

struct Setup {
  std::string file;
  DeviceKind device;
  AttentionForms attention;
};

void PrintTo(const Setup& setup, std::ostream* out) { *out << setup.file; }

std::string NameOf(const testing::TestParamInfo<Setup>& info) {
  const char* const device = info.param.device == DeviceKind::kCpu    ? "_cpu"
                             : info.param.device == DeviceKind::kCuda ? "_cuda"
                                                                      : "_reference";
  std::string name = info.param.file + device + "_" + ToString(info.param.attention);
  std::replace(name.begin(), name.end(), '-', '_');
  std::erase(name, ',');
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

// Feeds cases to an engine as its memory allows, step by step, and keeps what comes back.
class Driver {
 public:
  Driver(Engine* engine, const std::vector<GoldenCase>* cases)
      : engine_(engine), cases_(cases), streamed_(cases->size()) {}

  // Runs all cases, in an order made from `seed`. Returns what was wrong, a line each.
  std::vector<std::string> Run(unsigned seed) {
    std::vector<size_t> waiting(cases_->size());
    std::iota(waiting.begin(), waiting.end(), size_t{0});
    std::shuffle(waiting.begin(), waiting.end(), std::mt19937(seed));
    StepResult result;
    while ((!waiting.empty() || in_flight_ > 0) && wrong_.size() < 5) {
      const StepPlan plan = Admit(&waiting);
      if (in_flight_ == 0) {
        if (!waiting.empty()) wrong_.push_back("nothing is in flight and nothing fits");
        break;
      }
      if (absl::Status status = engine_->Step(plan, &result); !status.ok()) {
        wrong_.push_back("Step: " + status.ToString());
        break;
      }
      most_in_flight_ = std::max(most_in_flight_, in_flight_);
      for (SequenceUpdate& update : result.updates) Take(update);
    }
    return wrong_;
  }

  int finished() const { return finished_; }
  int most_in_flight() const { return most_in_flight_; }

 private:
  StepPlan Admit(std::vector<size_t>* waiting) {
    StepPlan plan;
    Resources free = engine_->free();
    // A few a step, so that cases join while others are anywhere in their decoding.
    while (!waiting->empty() && plan.admissions.size() < 3) {
      const GoldenCase& golden = (*cases_)[waiting->back()];
      const absl::StatusOr<Resources> needed =
          engine_->Measure({.source_tokens = static_cast<int>(golden.source.size()), .decoding = &golden.decoding});
      if (!needed.ok()) {
        wrong_.push_back(golden.name + ": " + needed.status().ToString());
      } else if (!needed->Fits(free)) {
        break;
      } else {
        free -= *needed;
        plan.admissions.push_back({.id = waiting->back() + 1,
                                   .source = golden.source,
                                   .decoding = golden.decoding,
                                   .stream = golden.decoding.num_return_sequences == 1});
        ++in_flight_;
      }
      waiting->pop_back();
    }
    return plan;
  }

  void Take(const SequenceUpdate& update) {
    const size_t index = update.id - 1;
    const GoldenCase& golden = cases_->at(index);
    std::vector<int32_t>& streamed = streamed_[index];
    streamed.insert(streamed.end(), update.tokens.begin(), update.tokens.end());
    if (!update.status.ok()) {
      wrong_.push_back(golden.name + ": " + update.status.ToString());
      --in_flight_;
    } else if (update.finished) {
      --in_flight_;
      ++finished_;
      if (std::string difference = DifferenceFromGolden(golden, update.hypotheses); !difference.empty()) {
        wrong_.push_back(std::move(difference));
      } else if (const std::vector<int32_t>& best = update.hypotheses[0].tokens;
                 !StreamFits(golden.decoding, streamed, best)) {
        wrong_.push_back(golden.name + ": streamed " + absl::StrJoin(streamed, " ") + ", answered " +
                         absl::StrJoin(best, " "));
      }
    }
  }

  // What was streamed is how the best answer begins; all of it where there is but one hypothesis.
  static bool StreamFits(const DecodingSpec& spec, const std::vector<int32_t>& streamed,
                         const std::vector<int32_t>& best) {
    if (spec.num_beams == 1) return streamed == best;
    return streamed.size() <= best.size() && std::equal(streamed.begin(), streamed.end(), best.begin());
  }

  Engine* engine_;
  const std::vector<GoldenCase>* cases_;
  std::vector<std::vector<int32_t>> streamed_;  // of each case
  std::vector<std::string> wrong_;
  int in_flight_ = 0, most_in_flight_ = 0, finished_ = 0;
};

class GoldenTest : public testing::TestWithParam<Setup> {};

TEST_P(GoldenTest, EngineAnswersAsTransformers) {
  GoldenFile file = ReadGoldenFile(GetParam().file);
  // What families have with texts is for the server's test (tests/e2e/golden_test.cc).
  if (!file.tokenizer.empty()) {
    std::erase_if(file.cases, [](const GoldenCase& golden) { return golden.text.has_value(); });
  }
  size_t kept = 0;
  // Families have one case a setting, BART three.
  const size_t every = file.cases.size() < 100 ? (kEvery + 1) / 2 : kEvery;
  for (size_t i = 0; i < file.cases.size(); i += every) std::swap(file.cases[kept++], file.cases[i]);
  file.cases.resize(kept);
  ASSERT_GE(file.cases.size(), 60u / kEvery);
  ThreadPool pool(std::min(4, ThreadPool::AvailableProcessors()));
  EngineOptions options;
  options.checkpoint = file.checkpoint;
  options.device = GetParam().device;
  options.precision = Precision::kFloat32;
  options.attention = GetParam().attention;
  // Tight, so that cases wait for memory that others return, and a batch of documents takes several steps to encode.
  options.encoder_memory_tokens = 1536;
  options.decoder_memory_tokens = 4096;
  options.max_rows = 60;
  options.encode_tokens_per_step = 96;
  options.pool = &pool;
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Load(options);
  ASSERT_TRUE(engine.ok()) << engine.status();
  EXPECT_EQ((*engine)->info().attention, GetParam().attention);
  EXPECT_EQ((*engine)->info().precision, Precision::kFloat32);

  Driver driver(engine->get(), &file.cases);
  const std::vector<std::string> wrong = driver.Run(/*seed=*/1);
  EXPECT_TRUE(wrong.empty()) << absl::StrJoin(wrong, "\n");
  EXPECT_EQ(driver.finished(), static_cast<int>(file.cases.size()));
  EXPECT_GE(driver.most_in_flight(), 6);
  EXPECT_EQ((*engine)->free(), (*engine)->info().capacity);
}

std::vector<Setup> AllSetups() {
  std::vector<Setup> setups;
  std::vector<const char*> tiny(std::begin(kTinyGoldenFiles), std::end(kTinyGoldenFiles));
  tiny.insert(tiny.end(), std::begin(kFamilyGoldenFiles), std::end(kFamilyGoldenFiles));
  for (const AttentionForms attention : {kAllEl, kAllKv, kElCross, kElSelf}) {
    for ([[maybe_unused]] const char* file : tiny) {
#ifdef ELSERVE_TEST_REFERENCE
      setups.push_back({file, DeviceKind::kReference, attention});
#endif
#ifdef ELSERVE_TEST_CPU
      setups.push_back({file, DeviceKind::kCpu, attention});
#endif
    }
#ifdef ELSERVE_TEST_CPU
    setups.push_back({kSynopsisGoldenFile, DeviceKind::kCpu, attention});
#endif
#ifdef ELSERVE_TEST_CUDA
    if (!CudaIsUnderTest()) continue;
    for (const char* file : tiny) setups.push_back({file, DeviceKind::kCuda, attention});
    if (kEvery == 1) setups.push_back({kSynopsisGoldenFile, DeviceKind::kCuda, attention});
#endif
  }
  return setups;
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest, testing::ValuesIn(AllSetups()), NameOf);

}  // namespace
}  // namespace elserve
