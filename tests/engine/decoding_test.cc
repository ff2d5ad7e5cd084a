// When two sequences' parameters are the same.
#include "engine/decoding.h"

#include <functional>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace elserve {
namespace {

std::shared_ptr<const StopStrings> Stop(const char* text, const char* token = "a") {
  auto texts = std::make_shared<TokenBytes>();
  texts->Add(token);
  return std::make_shared<const StopStrings>(StopStrings{.texts = texts, .strings = {text}});
}

// Each differs from the default and from all others in one value.
std::vector<DecodingSpec> Different() {
  const std::vector<std::function<void(DecodingSpec&)>> changes = {
      [](DecodingSpec&) {},
      [](DecodingSpec& d) {
        d.prefix = {0, 1};
      },
      [](DecodingSpec& d) { d.score_from = 1; },
      [](DecodingSpec& d) { d.num_beams = 2; },
      [](DecodingSpec& d) { d.num_beam_groups = 2; },
      [](DecodingSpec& d) { d.diversity_penalty = 0.5f; },
      [](DecodingSpec& d) { d.pad_token_id = 1; },
      [](DecodingSpec& d) { d.num_return_sequences = 2; },
      [](DecodingSpec& d) { d.do_sample = true; },
      [](DecodingSpec& d) { d.sampling.temperature = 0.5f; },
      [](DecodingSpec& d) { d.sampling.top_h = 0.5; },
      [](DecodingSpec& d) { d.sampling.top_k = 5; },
      [](DecodingSpec& d) { d.sampling.top_p = 0.5; },
      [](DecodingSpec& d) { d.sampling.min_p = 0.5; },
      [](DecodingSpec& d) { d.sampling.typical_p = 0.5; },
      [](DecodingSpec& d) { d.sampling.epsilon_cutoff = 0.5; },
      [](DecodingSpec& d) { d.sampling.eta_cutoff = 0.5; },
      [](DecodingSpec& d) { d.sampling.seed = 1; },
      [](DecodingSpec& d) { d.sampling.seed = uint64_t{1} << 40; },
      [](DecodingSpec& d) { d.length_penalty = 0.5f; },
      [](DecodingSpec& d) { d.early_stopping = EarlyStopping::kTrue; },
      [](DecodingSpec& d) { d.early_stopping = EarlyStopping::kNever; },
      [](DecodingSpec& d) { d.max_length = 21; },
      [](DecodingSpec& d) { d.min_length = 1; },
      [](DecodingSpec& d) { d.min_new_tokens = 1; },
      [](DecodingSpec& d) { d.no_repeat_ngram_size = 3; },
      [](DecodingSpec& d) { d.forced_bos_token_id = 0; },
      [](DecodingSpec& d) { d.forced_eos_token_id = {2}; },
      [](DecodingSpec& d) { d.eos_token_id = {2}; },
      [](DecodingSpec& d) { d.repetition_penalty = 1.5f; },
      [](DecodingSpec& d) { d.encoder_repetition_penalty = 1.5f; },
      [](DecodingSpec& d) { d.encoder_no_repeat_ngram_size = 3; },
      [](DecodingSpec& d) {
        d.biased_sequences = {{1}, {2, 3}};
      },
      [](DecodingSpec& d) {
        d.biased_sequences = {{1, 2}, {3}};
      },
      [](DecodingSpec& d) { d.sequence_bias = {0.5f}; },
      [](DecodingSpec& d) { d.exponential_decay_length_penalty.start_index = 1; },
      [](DecodingSpec& d) { d.exponential_decay_length_penalty.factor = 1.5; },
      [](DecodingSpec& d) { d.suppress_tokens = {1}; },
      [](DecodingSpec& d) { d.begin_suppress_tokens = {1}; },
      [](DecodingSpec& d) { d.bad_words_ids = {{1}}; },
      [](DecodingSpec& d) { d.renormalize_logits = true; },
      [](DecodingSpec& d) { d.remove_invalid_values = true; },
      [](DecodingSpec& d) { d.stop_strings = Stop("x"); },
      [](DecodingSpec& d) { d.stop_strings = Stop("y"); },
      [](DecodingSpec& d) { d.top_logprobs = 1; },
      [](DecodingSpec& d) {
        d.salience = {.tokens = {{1, 2}}, .addition = -1.0f};
      },
      [](DecodingSpec& d) {
        d.salience = {.tokens = {{1, 3}}, .addition = -1.0f};
      },
      [](DecodingSpec& d) {
        d.salience = {.tokens = {{1, 2}}, .addition = -2.0f};
      },
  };
  std::vector<DecodingSpec> specs(changes.size());
  for (size_t i = 0; i < changes.size(); ++i) changes[i](specs[i]);
  return specs;
}

TEST(DecodingTest, SpecsAreEqualWhereAllValuesAre) {
  const std::vector<DecodingSpec> specs = Different(), again = Different();
  for (size_t i = 0; i < specs.size(); ++i) {
    for (size_t j = 0; j < specs.size(); ++j) {
      EXPECT_EQ(specs[i] == again[j], i == j) << i << " " << j;
      EXPECT_EQ(HashOf(specs[i]) == HashOf(again[j]), i == j) << i << " " << j;
    }
  }
}

TEST(DecodingTest, StopStringsAreComparedByWhatTheyAre) {
  const auto spec = [](std::shared_ptr<const StopStrings> stop) {
    DecodingSpec made;
    made.stop_strings = std::move(stop);
    return made;
  };
  EXPECT_TRUE(spec(Stop("x")) == spec(Stop("x")));
  EXPECT_FALSE(spec(Stop("x", "a")) == spec(Stop("x", "b")));
  EXPECT_FALSE(spec(Stop("x")) == spec(nullptr));
  EXPECT_FALSE(spec(nullptr) == spec(Stop("x")));
  StopStrings fewer = *Stop("x"), without = *Stop("x");
  fewer.most_tokens = 3;
  without.texts = nullptr;
  EXPECT_FALSE(*Stop("x") == fewer);
  EXPECT_FALSE(*Stop("x") == without);
  EXPECT_FALSE(without == *Stop("x"));
}

TEST(DecodingTest, CountsTheMemoryOfLists) {
  const size_t least = HeapBytes(DecodingSpec());
  const std::vector<int32_t> ids(100);
  for (std::vector<int32_t> DecodingSpec::*list :
       {&DecodingSpec::prefix, &DecodingSpec::forced_eos_token_id, &DecodingSpec::eos_token_id,
        &DecodingSpec::suppress_tokens, &DecodingSpec::begin_suppress_tokens}) {
    DecodingSpec spec;
    spec.*list = ids;
    EXPECT_GE(HeapBytes(spec), least + 396);
    EXPECT_LE(HeapBytes(spec), least + 400);
  }
  DecodingSpec spec;
  spec.sequence_bias.assign(100, 0);
  EXPECT_EQ(HeapBytes(spec), least + 400);
  spec.biased_sequences.Add(ids);
  const size_t more = HeapBytes(spec);
  EXPECT_GE(more, least + 808);
  spec.bad_words_ids.Add(ids);
  EXPECT_EQ(HeapBytes(spec) - more, more - least - 400);
  spec.salience.tokens.resize(50);
  EXPECT_EQ(HeapBytes(spec) - more, more - least);
  const size_t without = HeapBytes(spec);
  spec.stop_strings = Stop(std::string(200, 'x').c_str());
  EXPECT_GE(HeapBytes(spec), without + sizeof(StopStrings) + sizeof(std::string) + 200);
}

}  // namespace
}  // namespace elserve
