#include "server/scheduling/answer_cache.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace elserve {
namespace {

std::shared_ptr<const Computation> Ask(int32_t token, size_t source_tokens = 100, std::string principal = "") {
  return std::make_shared<const Computation>(std::vector<int32_t>(source_tokens, token), DecodingSpec(),
                                             std::move(principal));
}

std::vector<Hypothesis> Answer(int32_t token, size_t tokens = 10) {
  Hypothesis hypothesis;
  hypothesis.tokens.assign(tokens, token);
  hypothesis.logprobs.assign(tokens, -0.5f);
  hypothesis.alternatives.assign(tokens, {token, -0.25f});
  hypothesis.score = 1.5f;
  hypothesis.reason = FinishReason::kStopString;
  return {hypothesis};
}

// What one answer of Answer's size takes.
int64_t BytesOfOne() {
  AnswerCache cache(1 << 20);
  cache.Put(Ask(1), Answer(1));
  return cache.counts().bytes;
}

TEST(AnswerCacheTest, GivesBackAllOfAnAnswer) {
  AnswerCache cache(1 << 20);
  EXPECT_EQ(cache.Find(*Ask(1)), nullptr);
  cache.Put(Ask(1), Answer(1));
  const std::vector<Hypothesis>* found = cache.Find(*Ask(1));
  ASSERT_NE(found, nullptr);
  ASSERT_EQ(found->size(), 1u);
  const Hypothesis& hypothesis = found->front();
  EXPECT_EQ(hypothesis.tokens, Answer(1)[0].tokens);
  EXPECT_EQ(hypothesis.logprobs, Answer(1)[0].logprobs);
  ASSERT_EQ(hypothesis.alternatives.size(), 10u);
  EXPECT_EQ(hypothesis.alternatives[9].token, 1);
  EXPECT_EQ(hypothesis.alternatives[9].logprob, -0.25f);
  EXPECT_EQ(hypothesis.score, 1.5f);
  EXPECT_EQ(hypothesis.reason, FinishReason::kStopString);
}

TEST(AnswerCacheTest, OfEqualQuestionsAlone) {
  AnswerCache cache(1 << 20);
  cache.Put(Ask(1), Answer(1));
  EXPECT_EQ(cache.Find(*Ask(2)), nullptr);
  EXPECT_EQ(cache.Find(*Ask(1, 99)), nullptr);
  EXPECT_EQ(cache.Find(*Ask(1, 100, "a")), nullptr);
  DecodingSpec beams;
  beams.num_beams = 2;
  EXPECT_EQ(cache.Find(Computation(std::vector<int32_t>(100, 1), beams, "")), nullptr);
  EXPECT_NE(cache.Find(*Ask(1)), nullptr);
}

TEST(AnswerCacheTest, KeepsNothingInNoBytes) {
  AnswerCache cache(0);
  cache.Put(Ask(1), Answer(1));
  EXPECT_EQ(cache.Find(*Ask(1)), nullptr);
  EXPECT_EQ(cache.counts().entries, 0);
  EXPECT_EQ(cache.counts().bytes, 0);
  EXPECT_EQ(cache.counts().evictions, 0);
}

// At least what the lists hold, and not twice as much.
TEST(AnswerCacheTest, CountsQuestionsAndAnswers) {
  const int64_t one = BytesOfOne();
  const auto least = static_cast<int64_t>(100 * sizeof(int32_t) + sizeof(Computation) + sizeof(Hypothesis) +
                                          10 * (sizeof(int32_t) + sizeof(float) + sizeof(TokenLogprob)));
  EXPECT_GE(one, least + 150);  // and what stands around them
  EXPECT_LE(one, least + 400);
  const auto bytes = [](std::shared_ptr<const Computation> question, const std::vector<Hypothesis>& answer) {
    AnswerCache cache(1 << 20);
    cache.Put(std::move(question), answer);
    return cache.counts().bytes;
  };
  EXPECT_EQ(bytes(Ask(1, 101), Answer(1)), one + 4);
  EXPECT_EQ(bytes(Ask(1), Answer(1, 11)), one + 16);
  EXPECT_GE(bytes(Ask(1, 100, std::string(1000, 'p')), Answer(1)), one + 900);
  std::vector<Hypothesis> two = Answer(1);
  two.push_back(two[0]);
  EXPECT_EQ(bytes(Ask(1), two), one + static_cast<int64_t>(sizeof(Hypothesis)) + 160);
  DecodingSpec spec;
  spec.suppress_tokens.assign(1000, 7);
  EXPECT_EQ(bytes(std::make_shared<const Computation>(std::vector<int32_t>(100, 1), spec, ""), Answer(1)), one + 4000);
}

TEST(AnswerCacheTest, GivesUpWhatWasNotAskedForTheLongest) {
  const int64_t one = BytesOfOne();
  AnswerCache cache(3 * one);
  for (const int token : {1, 2, 3}) cache.Put(Ask(token), Answer(token));
  EXPECT_EQ(cache.counts().bytes, 3 * one);
  EXPECT_EQ(cache.counts().entries, 3);
  EXPECT_EQ(cache.counts().evictions, 0);
  EXPECT_NE(cache.Find(*Ask(1)), nullptr);
  cache.Put(Ask(4), Answer(4));
  EXPECT_EQ(cache.Find(*Ask(2)), nullptr);
  for (const int token : {1, 3, 4}) ASSERT_NE(cache.Find(*Ask(token)), nullptr) << token;
  EXPECT_EQ(cache.Find(*Ask(3))->front().tokens[0], 3);
  EXPECT_EQ(cache.counts().bytes, 3 * one);
  EXPECT_EQ(cache.counts().entries, 3);
  EXPECT_EQ(cache.counts().evictions, 1);
  // A large one takes the place of several: of 1 and 4, not of 3.
  cache.Put(Ask(5), Answer(5, 10 + static_cast<size_t>(one) / 16));
  EXPECT_NE(cache.Find(*Ask(3)), nullptr);
  EXPECT_NE(cache.Find(*Ask(5)), nullptr);
  EXPECT_EQ(cache.counts().entries, 2);
  EXPECT_EQ(cache.counts().evictions, 3);
  EXPECT_LE(cache.counts().bytes, 3 * one);
}

TEST(AnswerCacheTest, OneByteTooFewIsOneAnswerLess) {
  const int64_t one = BytesOfOne();
  AnswerCache cache(2 * one - 1);
  cache.Put(Ask(1), Answer(1));
  cache.Put(Ask(2), Answer(2));
  EXPECT_EQ(cache.counts().entries, 1);
  EXPECT_EQ(cache.Find(*Ask(1)), nullptr);
  EXPECT_NE(cache.Find(*Ask(2)), nullptr);
}

TEST(AnswerCacheTest, WhatIsLargerThanTheWholeDisplacesNothing) {
  const int64_t one = BytesOfOne();
  AnswerCache cache(one);
  cache.Put(Ask(1), Answer(1));
  cache.Put(Ask(2), Answer(2, 11));
  EXPECT_NE(cache.Find(*Ask(1)), nullptr);
  EXPECT_EQ(cache.Find(*Ask(2)), nullptr);
  EXPECT_EQ(cache.counts().evictions, 0);
}

TEST(AnswerCacheTest, KeepsAnAnswerOnce) {
  const int64_t one = BytesOfOne();
  AnswerCache cache(2 * one);
  cache.Put(Ask(1), Answer(1));
  cache.Put(Ask(2), Answer(2));
  cache.Put(Ask(1), Answer(1));
  EXPECT_EQ(cache.counts().entries, 2);
  EXPECT_EQ(cache.counts().bytes, 2 * one);
  // And as good as asked for again.
  cache.Put(Ask(3), Answer(3));
  EXPECT_NE(cache.Find(*Ask(1)), nullptr);
  EXPECT_EQ(cache.Find(*Ask(2)), nullptr);
}

}  // namespace
}  // namespace elserve
