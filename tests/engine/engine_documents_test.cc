// What sequences with equal sources share: one encoding and one share of encoder memory, while they are in flight and
// after them.
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "gmock/gmock.h"
#include "tests/engine/engine_fixture.h"

namespace elserve {
namespace {

using ::testing::UnorderedElementsAre;

// Three encoder layers; a budget of one token pays a layer a step, so a document takes three.
std::string SlowCheckpoint() { return ELSERVE_SOURCE_DIR "/tests/golden/checkpoints/bart-relu"; }

// Carries out plans and remembers what came of the last one.
class DocumentsTest : public EngineTest {
 protected:
  void Start(const EngineOptions& options) {
    engine_ = LoadEngine(options);
    ASSERT_TRUE(engine_);
  }
  EngineOptions Slow() {
    EngineOptions options = OptionsFor(SlowCheckpoint(), kFloat32El, &pool_);
    options.encode_tokens_per_step = 1;
    return options;
  }
  std::vector<int32_t> Source(int tokens) { return RandomSource(tokens, 271, rng_); }

  SequenceId Join(const std::vector<int32_t>& source, int beams = 1, int max_length = 20) {
    plan_.admissions.push_back({next_id_, source, Decoding(beams, max_length)});
    return next_id_++;
  }
  void Leave(SequenceId id, EndKind kind = EndKind::kDiscard) { plan_.ends.push_back({id, kind}); }

  // Ids that became encoded.
  std::vector<SequenceId> Step() {
    EXPECT_TRUE(engine_->Step(plan_, &result_).ok());
    plan_ = {};
    encoded_tokens_ += result_.encoded_tokens;
    std::vector<SequenceId> encoded;
    for (const SequenceUpdate& update : result_.updates) {
      if (update.encoded) encoded.push_back(update.id);
    }
    return encoded;
  }
  void RunToEnd() {
    do Step();
    while (!result_.idle);
    EXPECT_EQ(engine_->free(), engine_->info().capacity);
  }
  const EncoderCacheCounts& counts() const { return result_.encoder_cache; }

  std::mt19937 rng_{81};
  std::unique_ptr<Engine> engine_;
  SequenceId next_id_ = 1;
  StepPlan plan_;
  StepResult result_;
  int64_t encoded_tokens_ = 0;
};

// All at once, or one after the other.
TEST_F(DocumentsTest, SixtyFourRequestsOnEightDocumentsEncodeEightTimes) {
  for (const bool together : {true, false}) {
    for (const bool cache : {true, false}) {
      EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
      options.max_rows = 64;
      options.encoder_memory_tokens = 64 * 64;
      options.encoder_cache = cache;
      Start(options);
      EXPECT_EQ(engine_->info().encoder_cache, cache);
      encoded_tokens_ = 0;
      int64_t tokens = 0;
      std::vector<std::vector<int32_t>> sources;
      for (int i = 0; i < 8; ++i) tokens += static_cast<int64_t>(sources.emplace_back(Source(40 + i)).size());
      for (int i = 0; i < 64; ++i) {
        Join(sources[i % 8], 1, 4);
        if (!together) RunToEnd();
      }
      RunToEnd();
      EXPECT_EQ(encoded_tokens_, cache ? tokens : 8 * tokens);
      EXPECT_EQ(counts().misses, cache ? 8 : 0);
      EXPECT_EQ(counts().hits, cache ? 56 : 0);
      EXPECT_EQ(counts().evictions, 0);
      EXPECT_EQ(counts().kept_tokens, cache ? tokens : 0);
    }
  }
}

TEST_F(DocumentsTest, LaterOnesWaitForTheSameEncoding) {
  Start(Slow());
  const std::vector<int32_t> source = Source(40);
  const SequenceId first = Join(source);
  EXPECT_TRUE(Step().empty());
  const SequenceId second = Join(source, 3);
  EXPECT_TRUE(Step().empty());
  const SequenceId third = Join(source);
  EXPECT_THAT(Step(), UnorderedElementsAre(first, second, third));
  EXPECT_EQ(result_.rows, 0);
  EXPECT_EQ(encoded_tokens_, 40);
  Step();
  EXPECT_EQ(result_.rows, 3);
  EXPECT_EQ(result_.documents, 1);
}

// The sequence that brought the document may leave: those that wait keep it, and lose no step.
TEST_F(DocumentsTest, EncodingGoesOnWhileSomebodyWaits) {
  Start(Slow());
  const std::vector<int32_t> source = Source(40);
  const SequenceId first = Join(source), second = Join(source);
  Step();
  Leave(first);
  EXPECT_TRUE(Step().empty());
  EXPECT_EQ(engine_->free().encoder_pages, engine_->info().capacity.encoder_pages - 1);
  EXPECT_THAT(Step(), UnorderedElementsAre(second));
  EXPECT_EQ(encoded_tokens_, 40);
  RunToEnd();
}

// What the last one leaves in the middle is no document: the next one begins again.
TEST_F(DocumentsTest, WhatIsNotEncodedIsNotKept) {
  Start(Slow());
  const std::vector<int32_t> source = Source(40);
  for (int steps = 1; steps <= 2; ++steps) {
    const SequenceId first = Join(source);
    for (int i = 0; i < steps; ++i) EXPECT_TRUE(Step().empty());
    Leave(first);
    const SequenceId second = Join(source);
    EXPECT_TRUE(Step().empty());
    EXPECT_EQ(counts().hits, 0);
    Leave(second, EndKind::kFinish);
    Step();
    EXPECT_TRUE(result_.idle);
    EXPECT_EQ(counts().kept_tokens, 0);
    EXPECT_EQ(encoded_tokens_, 0);
  }
}

TEST_F(DocumentsTest, WhatIsThereDecodesAtOnce) {
  Start(Slow());
  const std::vector<int32_t> source = Source(40);
  Join(source);
  RunToEnd();
  const SequenceId again = Join(source, 2, /*max_length=*/2);
  EXPECT_THAT(Step(), UnorderedElementsAre(again));
  EXPECT_EQ(result_.rows, 1);
  ASSERT_EQ(result_.updates.size(), 1u);
  EXPECT_TRUE(result_.updates[0].finished);
  EXPECT_TRUE(result_.idle);
  EXPECT_EQ(encoded_tokens_, 40);
}

// Rows of one document stand together, whenever they came; the step counts documents.
TEST_F(DocumentsTest, RowsOfADocumentAreOneDocumentOfTheStep) {
  Start(OptionsFor(TinyCheckpoint(), kFloat32El, &pool_));
  const std::vector<int32_t> a = Source(30), b = Source(30), c = Source(30);
  for (const auto& source : {a, b, c}) Join(source);
  Step();
  for (const auto& source : {b, a, c, b}) Join(source, 2);
  for (int i = 0; i < 3; ++i) Step();
  EXPECT_EQ(result_.rows, 3 + 4 * 2);
  EXPECT_EQ(result_.documents, 3);
  RunToEnd();
  EXPECT_EQ(counts().misses, 3);
}

// To the last page: a document in use takes its pages once, one that is only kept takes them again.
TEST_F(DocumentsTest, PagesOfADocumentInUseCountOnce) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.encoder_memory_tokens = 4 * 64;
  Start(options);
  const std::vector<int32_t> a = Source(96), b = Source(96), c = Source(64);
  for (const auto& source : {a, b, a, a, b}) Join(source);
  Step();
  EXPECT_EQ(engine_->free().encoder_pages, 0);
  RunToEnd();
  EXPECT_EQ(counts().kept_tokens, 192);
  Join(c);  // a goes
  Join(b);
  Step();
  EXPECT_EQ(engine_->free().encoder_pages, 1);
  EXPECT_EQ(counts().evictions, 1);
  EXPECT_EQ(counts().kept_tokens, 0);
  Join(a);
  EXPECT_EQ(engine_->Step(plan_, &result_).code(), absl::StatusCode::kInternal);
}

// A plan's ends come first: a document that they leave is there for its admissions.
TEST_F(DocumentsTest, ADocumentPassesFromOneToTheNextInOneStep) {
  EngineOptions options = OptionsFor(TinyCheckpoint(), kFloat32El, &pool_);
  options.encoder_memory_tokens = 2 * 64;
  Start(options);
  const std::vector<int32_t> source = Source(96);
  SequenceId last = Join(source);
  for (int i = 0; i < 4; ++i) Step();
  for (int i = 0; i < 5; ++i) {
    Leave(last);
    last = Join(source);
    EXPECT_THAT(Step(), UnorderedElementsAre(last));
  }
  EXPECT_EQ(encoded_tokens_, 96);
}

}  // namespace
}  // namespace elserve
