// An answer does not depend on what else is in the engine: the same bits alone and among many, whatever the threads,
// the memory and the encode budget. And both forms of attention answer alike.
#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/traffic.h"

namespace elserve {
namespace {

class BatchingTest : public testing::TestWithParam<Variant> {
 protected:
  // `alone` with one thread, much room and no encoder cache, `crowded` with several threads, little room and one.
  // No encoder tokens: the model has no encoder.
  void Load(const std::string& checkpoint, int max_rows, int encoder_tokens, int decoder_tokens, int encode_tokens) {
    EngineOptions options = OptionsOf(checkpoint, &one_);
    options.encoder_memory_tokens = encoder_tokens == 0 ? 0 : 8192;
    options.decoder_memory_tokens = 8192;
    options.encode_tokens_per_step = 2048;
    options.encoder_cache = false;
    alone_ = LoadEngine(options);
    options = OptionsOf(checkpoint, &several_);
    options.max_rows = max_rows;
    options.encoder_memory_tokens = encoder_tokens;
    options.decoder_memory_tokens = decoder_tokens;
    options.encode_tokens_per_step = encode_tokens;
    crowded_ = LoadEngine(options);
  }

  void ExpectSameBits(const std::vector<Request>& requests, int least_in_flight, int joins_per_step = 3) {
    ASSERT_TRUE(alone_ && crowded_);
    const std::vector<Outcome> alone = RunAlone(alone_.get(), requests);
    int most_in_flight = 0;
    const std::vector<Outcome> together = RunTogether(crowded_.get(), requests, joins_per_step, 7, &most_in_flight);
    EXPECT_GE(most_in_flight, least_in_flight);
    const Compared compared = Compare(requests, alone, together);
    EXPECT_GT(compared.requests, static_cast<int>(requests.size()) * 3 / 4);
    EXPECT_GT(compared.ended, 0);
    EXPECT_EQ(crowded_->free(), crowded_->info().capacity);
  }

  EngineOptions OptionsOf(const std::string& checkpoint, ThreadPool* pool) const {
    EngineOptions options = OptionsFor(checkpoint, GetParam(), pool);
    options.approximation = approximation_;
    options.ffn_top_k = ffn_top_k_;
    return options;
  }

  struct Compared {
    int requests = 0, ended = 0;
  };
  static Compared Compare(const std::vector<Request>& requests, const std::vector<Outcome>& alone,
                          const std::vector<Outcome>& together) {
    Compared compared;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (requests[i].discard_after_steps >= 0) continue;  // how far it came depends on the load
      ++compared.requests;
      compared.ended += alone[i].finished && requests[i].end_after_decode_steps >= 0;
      EXPECT_EQ(BitDifference(alone[i], together[i]), "")
          << "request " << i << ", " << requests[i].decoding.num_beams << " beams, " << requests[i].source.size()
          << " source tokens";
    }
    return compared;
  }

  AttentionApproximation approximation_;  // of what Load loads
  int ffn_top_k_ = 0;
  ThreadPool one_{1}, several_{3};
  std::unique_ptr<Engine> alone_, crowded_;
};

// An emulated device is slow, and has one thread.
#if ELSERVE_TEST_CUDA_EMULATED
constexpr int kManyRequests = 30;
constexpr bool kOneAtATime = true;
#else
constexpr int kManyRequests = 200;
constexpr bool kOneAtATime = false;
#endif

TEST_P(BatchingTest, ManyRequestsOfATinyModel) {
  std::vector<Request> requests = RandomRequests(kManyRequests, {96, 40, 283}, /*seed=*/1);
  EndSome(&requests, /*seed=*/2);
  Load(TinyCheckpoint(), /*max_rows=*/37, /*encoder_tokens=*/1280, /*decoder_tokens=*/1500, /*encode_tokens=*/70);
  ExpectSameBits(requests, 7);
}

// All of them in flight at once.
TEST_P(BatchingTest, ARequestAmongTwoHundred) {
  std::vector<Request> requests = RandomRequests(kManyRequests + 1, {96, 20, 283}, /*seed=*/16);
  EndSome(&requests, /*seed=*/19);
  Load(TinyCheckpoint(), /*max_rows=*/1600, /*encoder_tokens=*/1 << 15, /*decoder_tokens=*/1 << 15,
       /*encode_tokens=*/500);
  ExpectSameBits(requests, kManyRequests, kManyRequests + 1);
}

// What is left out of a document's weights depends on the document and the query alone.
TEST_P(BatchingTest, RequestsOfAModelThatApproximates) {
  const std::string checkpoint = ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-relu";
  std::vector<Request> requests = RandomRequests(kManyRequests / 2, {48, 40, 271}, /*seed=*/25);
  EndSome(&requests, /*seed=*/26);
  Load(checkpoint, /*max_rows=*/37, /*encoder_tokens=*/1280, /*decoder_tokens=*/1500, /*encode_tokens=*/70);
  ASSERT_TRUE(alone_);
  const std::vector<Outcome> exact = RunAlone(alone_.get(), requests);
  for (const AttentionValues values : {AttentionValues::kPruned, AttentionValues::kLog3Bit}) {
    approximation_ = {.top_k = 20, .values = values, .threshold = 0.01f};
    ffn_top_k_ = 7;
    if (GetParam().device == DeviceKind::kCuda) {
      EngineOptions int8 = OptionsFor(checkpoint, GetParam(), &one_);
      int8.precision = Precision::kInt8;
      EXPECT_THAT(std::string(Engine::Load(int8).status().message()), testing::HasSubstr("precision: int8 needs"));
      const auto refused = Engine::Load(OptionsOf(checkpoint, &one_));
      ASSERT_FALSE(refused.ok());
      EXPECT_THAT(std::string(refused.status().message()),
                  testing::HasSubstr("attention_top_k is 20; device: cuda is exact"));
      continue;
    }
    if (GetParam().int8_memory) {
      EXPECT_THAT(std::string(Engine::Load(OptionsOf(checkpoint, &one_)).status().message()),
                  testing::HasSubstr("memory_precision: int8 with attention_top_k or attention_values"));
      continue;
    }
    Load(checkpoint, /*max_rows=*/37, /*encoder_tokens=*/1280, /*decoder_tokens=*/1500, /*encode_tokens=*/70);
    ExpectSameBits(requests, 7);
    const std::vector<Outcome> approximate = RunAlone(alone_.get(), requests);
    int differ = 0;
    for (size_t i = 0; i < requests.size(); ++i) differ += BitDifference(exact[i], approximate[i]).empty() ? 0 : 1;
    EXPECT_GT(differ, kManyRequests / 4);
  }
}

// Prompts of a model without an encoder come in slices.
TEST_P(BatchingTest, RequestsOfADecoderOnlyModel) {
  std::vector<Request> requests = RandomRequests(kManyRequests / 2, {70, 24, 400}, /*seed=*/17);
  MakeSourcesPrompts(&requests);
  EndSome(&requests, /*seed=*/18);
  // With room for the whole prompt a sequence decodes in its first step.
  for (Request& request : requests) {
    if (request.end_after_decode_steps == 0) request.end_after_decode_steps = 1;
  }
  Load(ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/gpt2-hub", /*max_rows=*/37, /*encoder_tokens=*/0,
       /*decoder_tokens=*/2500, /*encode_tokens=*/33);
  ExpectSameBits(requests, 5);
}

// Few documents of many requests: shared, kept, and given up when their pages are needed. Nobody's answer knows.
TEST_P(BatchingTest, RequestsThatShareDocuments) {
  constexpr int kDocuments = kManyRequests / 10 + 8;
  const std::vector<Request> documents = RandomRequests(kDocuments, {96, 24, 283}, /*seed=*/12);
  std::vector<Request> requests = RandomRequests(kManyRequests, {96, 24, 283}, /*seed=*/13);
  EndSome(&requests, /*seed=*/14);
  std::mt19937 rng(15);
  for (Request& request : requests) {
    request.source = documents[rng() % kDocuments].source;
    // One of a few of the document: some are equal, some are not.
    std::mt19937 few(rng() % 2);
    const bool salient = rng() % 2 == 0;
    request.decoding.salience = salient ? RandomSalience(static_cast<int>(request.source.size()), few) : Salience();
    // Where its document was there a sequence decodes in its first step.
    if (request.end_after_decode_steps == 0) request.end_after_decode_steps = 1;
  }
  Load(TinyCheckpoint(), /*max_rows=*/48, /*encoder_tokens=*/640, /*decoder_tokens=*/1500, /*encode_tokens=*/70);
  ExpectSameBits(requests, 7);
  StepResult result;
  ASSERT_TRUE(crowded_->Step({}, &result).ok());
  const EncoderCacheCounts& counts = result.encoder_cache;
  EXPECT_EQ(counts.hits + counts.misses, kManyRequests);
  EXPECT_GT(counts.hits, kManyRequests / 8);
  EXPECT_GT(counts.evictions, kManyRequests / 8);
  EXPECT_GT(counts.kept_tokens, 0);
}

// A model of each family, whose engines step at the same time in one pool.
TEST_P(BatchingTest, RequestsOfAllFamiliesInFlight) {
  struct Model {
    const char* name;
    std::vector<Request> requests;
    std::vector<Outcome> alone, together;
    std::unique_ptr<Engine> engine;
    int most_in_flight = 0;
  };
  std::deque<Model> models;
  std::vector<const char*> names = {"bart-odd", "t5-hub", "t5-gated-hub", "pegasus-hub", "mbart-hub", "marian-hub"};
  if (GetParam().device == DeviceKind::kCpu) names.push_back("bart-favor");
  for (const char* name : names) {
    const auto seed = static_cast<unsigned>(20 + models.size());
    Model& model = models.emplace_back(name);
    model.requests = RandomRequests(kManyRequests / 6 + 1, {60, 40, 283}, seed);
    EndSome(&model.requests, seed);
    Load(absl::StrCat(ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/", name), /*max_rows=*/37,
         /*encoder_tokens=*/1280, /*decoder_tokens=*/1500, /*encode_tokens=*/70);
    ASSERT_TRUE(alone_ && crowded_) << name;
    model.alone = RunAlone(alone_.get(), model.requests);
    model.engine = std::move(crowded_);
  }
  std::vector<std::thread> threads;
  for (Model& model : models) {
    threads.emplace_back(
        [&model] { model.together = RunTogether(model.engine.get(), model.requests, 3, 7, &model.most_in_flight); });
    if (kOneAtATime) threads.back().join();
  }
  Compared all;
  for (size_t i = 0; i < models.size(); ++i) {
    if (!kOneAtATime) threads[i].join();
    const Model& model = models[i];
    SCOPED_TRACE(model.name);
    EXPECT_GE(model.most_in_flight, std::min<int>(5, static_cast<int>(model.requests.size())));
    const Compared compared = Compare(model.requests, model.alone, model.together);
    all.requests += compared.requests, all.ended += compared.ended;
    EXPECT_EQ(model.engine->free(), model.engine->info().capacity);
  }
  EXPECT_GT(all.requests, kManyRequests * 3 / 4);
  EXPECT_GT(all.ended, 0);
}

TEST_P(BatchingTest, RequestsOfTheEmbeddedModel) {
  std::vector<Request> requests = RandomRequests(48, {200, 14, 8192}, /*seed=*/3);
  std::mt19937 rng(4);
  requests[5].source = RandomSource(700, 8192, rng);
  EndSome(&requests, /*seed=*/5);
  Load(SynopsisCheckpoint(), /*max_rows=*/70, /*encoder_tokens=*/4096, /*decoder_tokens=*/1536, /*encode_tokens=*/256);
  ExpectSameBits(requests, 10);
}

TEST_P(BatchingTest, EncodeBudgetChangesNoBit) {
  const std::vector<Request> requests = RandomRequests(40, {96, 12, 283}, /*seed=*/6);
  std::vector<Outcome> first;
  for (const int encode_tokens : {1, 64, 100, 5000}) {
    Load(TinyCheckpoint(), 64, 4096, 4096, encode_tokens);
    ASSERT_TRUE(crowded_);
    std::vector<Outcome> outcomes = RunTogether(crowded_.get(), requests, 8, encode_tokens);
    if (first.empty()) first = outcomes;
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(BitDifference(first[i], outcomes[i]), "")
          << "request " << i << ", " << encode_tokens << " tokens a step";
    }
  }
}

// An end that names a sequence which is gone, or never was, is no error and touches nobody.
TEST_P(BatchingTest, EndingWhatIsGoneIsIgnored) {
  Load(TinyCheckpoint(), 16, 1024, 1024, 64);
  ASSERT_TRUE(crowded_);
  StepPlan plan;
  plan.ends = {{uint64_t{1} << 60, EndKind::kFinish}, {(uint64_t{1} << 60) + 1, EndKind::kDiscard}};
  StepResult result;
  ASSERT_TRUE(crowded_->Step(plan, &result).ok());
  EXPECT_TRUE(result.updates.empty());
  EXPECT_TRUE(result.idle);
}

INSTANTIATE_TEST_SUITE_P(All, BatchingTest, testing::ValuesIn(Variants()), testing::PrintToStringParamName());

// EL-attention is algebra, no approximation: where no two sums are close, both forms find the same tokens in float32.
void ExpectFormsAgree(DeviceKind device, const std::string& checkpoint, const std::vector<Request>& requests) {
  ThreadPool pool(2);
  std::vector<std::vector<Outcome>> outcomes;
  constexpr AttentionForms kElCross = {AttentionForm::kEl, AttentionForm::kKv};
  constexpr AttentionForms kElSelf = {AttentionForm::kKv, AttentionForm::kEl};
  for (const AttentionForms forms : {kAllKv, kAllEl, kElCross, kElSelf}) {
    EngineOptions options = OptionsFor(checkpoint, {Precision::kFloat32, forms, device}, &pool);
    options.encoder_memory_tokens = options.decoder_memory_tokens = 8192;
    options.max_rows = 96;
    const std::unique_ptr<Engine> engine = LoadEngine(options);
    ASSERT_TRUE(engine);
    EXPECT_EQ(engine->info().attention, forms);
    outcomes.push_back(RunTogether(engine.get(), requests, 6, 9));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const Outcome& kv = outcomes[0][i];
    for (size_t f = 1; f < outcomes.size(); ++f) {
      const Outcome& el = outcomes[f][i];
      ASSERT_TRUE(el.finished && kv.finished);
      ASSERT_EQ(el.hypotheses.size(), kv.hypotheses.size());
      for (size_t j = 0; j < el.hypotheses.size(); ++j) {
        EXPECT_EQ(el.hypotheses[j].tokens, kv.hypotheses[j].tokens) << "request " << i << ", hypothesis " << j;
        const float score = kv.hypotheses[j].score;
        EXPECT_NEAR(el.hypotheses[j].score, score, 1e-4 * std::max(1.0f, std::abs(score))) << "request " << i;
      }
    }
  }
}

TEST(AttentionForms, AgreeInFloat32OnATinyModel) {
  for (const DeviceKind device : Devices()) {
    ExpectFormsAgree(device, TinyCheckpoint(), RandomRequests(150, {96, 40, 283}, /*seed=*/11));
  }
}

TEST(AttentionForms, AgreeInFloat32OnTheEmbeddedModel) {
  for (const DeviceKind device : Devices()) {
    ExpectFormsAgree(device, SynopsisCheckpoint(), RandomRequests(60, {200, 16, 8192}, /*seed=*/12));
  }
}

}  // namespace
}  // namespace elserve
