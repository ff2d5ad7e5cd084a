// Layers merge, and the result resolves to what the engine does, as in transformers' generate().
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "google/protobuf/descriptor.h"
#include "server/parameters/parameters.h"
#include "server/parameters/rules.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr ModelLimits kLimits{.vocab_size = 100, .max_decoder_tokens = 64};

v1::DecodingParameters Layer(std::initializer_list<std::string_view> assignments) {
  v1::DecodingParameters parameters;
  for (std::string_view text : assignments) {
    const absl::Status status = SetParameterFromText(text, &parameters);
    EXPECT_TRUE(status.ok()) << text << ": " << status;
  }
  return parameters;
}

v1::DecodingParameters Merge(std::initializer_list<v1::DecodingParameters> layers) {
  v1::DecodingParameters merged = BuiltInParameters();
  for (const v1::DecodingParameters& layer : layers) MergeParameters(layer, &merged);
  return merged;
}

ResolvedParameters Resolve(std::initializer_list<std::string_view> assignments) {
  const auto resolved =
      ResolveParameters(Merge({Layer({"decoder_start_token_id=2", "eos_token_id=2"}), Layer(assignments)}), kLimits);
  EXPECT_TRUE(resolved.ok()) << resolved.status();
  return resolved.ok() ? *resolved : ResolvedParameters{};
}

std::string Refusal(std::initializer_list<std::string_view> assignments) {
  const auto resolved = ResolveParameters(Merge({Layer({"decoder_start_token_id=2"}), Layer(assignments)}), kLimits);
  EXPECT_EQ(resolved.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(resolved.status().message());
}

TEST(MergeTest, UpperLayersReplaceWhatTheySet) {
  const auto merged = Merge({Layer({"num_beams=4", "length_penalty=2.0"}), Layer({"num_beams=2"})});
  EXPECT_EQ(merged.num_beams(), 2);
  EXPECT_EQ(merged.length_penalty(), 2.0);
  EXPECT_EQ(merged.num_return_sequences(), 1);
}

TEST(MergeTest, ZeroAndFalseAreValues) {
  const auto merged = Merge({Layer({"no_repeat_ngram_size=3", "length_penalty=2", "early_stopping=true"}),
                             Layer({"no_repeat_ngram_size=0", "length_penalty=0", "early_stopping=false"})});
  EXPECT_EQ(merged.no_repeat_ngram_size(), 0);
  EXPECT_EQ(merged.length_penalty(), 0);
  EXPECT_EQ(merged.early_stopping(), v1::EARLY_STOPPING_FALSE);
}

TEST(MergeTest, OneWayToSayALengthClearsTheOther) {
  auto merged = Merge({Layer({"max_length=50", "min_length=10"}), Layer({"max_new_tokens=20"})});
  EXPECT_FALSE(merged.has_max_length());
  EXPECT_EQ(merged.max_new_tokens(), 20);
  EXPECT_EQ(merged.min_length(), 10);
  MergeParameters(Layer({"max_length=30", "min_new_tokens=5"}), &merged);
  EXPECT_FALSE(merged.has_max_new_tokens());
  EXPECT_EQ(merged.max_length(), 30);
  EXPECT_FALSE(merged.has_min_length());
  EXPECT_EQ(merged.min_new_tokens(), 5);
  MergeParameters(Layer({"min_length=7"}), &merged);
  EXPECT_FALSE(merged.has_min_new_tokens());
  EXPECT_EQ(merged.max_length(), 30);
}

TEST(MergeTest, ListsReplaceAsAWhole) {
  const auto merged = Merge({Layer({"eos_token_id=[2,3,4]", "forced_eos_token_id=2"}), Layer({"eos_token_id=5"})});
  EXPECT_THAT(merged.eos_token_id(), ElementsAre(5));
  EXPECT_THAT(merged.forced_eos_token_id(), ElementsAre(2));
}

TEST(MergeTest, UnspecifiedKeepsTheLayerBelow) {
  v1::DecodingParameters request;
  request.set_early_stopping(v1::EARLY_STOPPING_UNSPECIFIED);
  EXPECT_EQ(Merge({Layer({"early_stopping=never"}), request}).early_stopping(), v1::EARLY_STOPPING_NEVER);
}

v1::DecodingParameters Resetting(std::initializer_list<const char*> names) {
  v1::DecodingParameters layer;
  for (const char* name : names) layer.add_reset(name);
  return layer;
}

TEST(MergeTest, ResetDropsWhatIsBelowAndNothingElse) {
  auto merged = Merge({Layer({"num_beams=4", "length_penalty=2", "eos_token_id=[2,3]", "max_length=30"}),
                       Resetting({"num_beams", "eos_token_id"})});
  EXPECT_EQ(merged.num_beams(), 1);  // the built-in value
  EXPECT_EQ(merged.eos_token_id_size(), 0);
  EXPECT_EQ(merged.length_penalty(), 2);
  EXPECT_EQ(merged.max_length(), 30);
  EXPECT_EQ(merged.reset_size(), 0);
  // The layers above start anew.
  MergeParameters(Layer({"num_beams=3"}), &merged);
  EXPECT_EQ(merged.num_beams(), 3);
}

TEST(MergeTest, ALayerMayResetAndSet) {
  auto layer = Resetting({"eos_token_id", "num_beams"});
  layer.add_eos_token_id(7);
  const auto merged = Merge({Layer({"eos_token_id=[2,3]", "num_beams=4"}), layer});
  EXPECT_THAT(merged.eos_token_id(), ElementsAre(7));
  EXPECT_EQ(merged.num_beams(), 1);
}

TEST(MergeTest, ResetDropsOneWayToSayALength) {
  const auto both = Layer({"max_length=30", "max_new_tokens=5", "min_length=4", "min_new_tokens=2"});
  const auto merged = Merge({both, Resetting({"max_new_tokens", "min_length"})});
  EXPECT_EQ(merged.max_length(), 30);
  EXPECT_FALSE(merged.has_max_new_tokens());
  EXPECT_FALSE(merged.has_min_length());
  EXPECT_EQ(merged.min_new_tokens(), 2);
}

TEST(MergeDefaultsTest, EachLayerLiesOverTheOneBefore) {
  static constexpr v1::DecodingParameters DefaultLayers::*kUpwards[] = {
      &DefaultLayers::checkpoint, &DefaultLayers::checkpoint_task, &DefaultLayers::configuration,
      &DefaultLayers::configuration_task};
  DefaultLayers layers;
  EXPECT_EQ(MergeDefaults(layers).num_beams(), BuiltInParameters().num_beams());
  int beams = 2;
  for (const auto layer : kUpwards) {
    (layers.*layer).set_num_beams(beams);
    EXPECT_EQ(MergeDefaults(layers).num_beams(), beams);
    ++beams;
  }
  v1::DecodingParameters merged = MergeDefaults(layers);
  MergeParameters(Layer({"num_beams=20"}), &merged);
  EXPECT_EQ(merged.num_beams(), 20);
  // From the top down each one shows the one below.
  for (size_t i = std::size(kUpwards); i-- > 0;) {
    EXPECT_EQ(MergeDefaults(layers).num_beams(), static_cast<int>(i) + 2);
    (layers.*kUpwards[i]).clear_num_beams();
  }
}

TEST(MergeDefaultsTest, LayersThatSayOtherThingsAddUp) {
  DefaultLayers layers;
  layers.checkpoint = Layer({"max_length=40", "length_penalty=2"});
  layers.checkpoint_task = Layer({"min_length=3"});
  layers.configuration = Layer({"max_new_tokens=30"});
  layers.configuration_task = Layer({"length_penalty=null", "no_repeat_ngram_size=2"});
  const v1::DecodingParameters merged = MergeDefaults(layers);
  EXPECT_FALSE(merged.has_max_length());
  EXPECT_EQ(merged.max_new_tokens(), 30);
  EXPECT_EQ(merged.min_length(), 3);
  EXPECT_EQ(merged.length_penalty(), 1.0);
  EXPECT_EQ(merged.no_repeat_ngram_size(), 2);
  EXPECT_EQ(merged.num_return_sequences(), 1);
}

TEST(ResolveTest, NothingSetIsTwentyNewTokensGreedily) {
  const DecodingSpec spec = Resolve({}).spec;
  EXPECT_EQ(spec.num_beams, 1);
  EXPECT_EQ(spec.num_return_sequences, 1);
  EXPECT_EQ(spec.length_penalty, 1.0f);
  EXPECT_EQ(spec.early_stopping, EarlyStopping::kFalse);
  EXPECT_EQ(spec.max_length, 21);
  EXPECT_EQ(spec.min_length, 0);
  EXPECT_EQ(spec.min_new_tokens, 0);
  EXPECT_EQ(spec.no_repeat_ngram_size, 0);
  EXPECT_THAT(spec.prefix, ElementsAre(2));
  EXPECT_EQ(spec.forced_bos_token_id, -1);
  EXPECT_THAT(spec.forced_eos_token_id, IsEmpty());
  EXPECT_THAT(spec.eos_token_id, ElementsAre(2));
}

TEST(ResolveTest, TheDefaultLengthIsCutToTheModelAndNoOther) {
  const auto merged = Merge({Layer({"decoder_start_token_id=2"})});
  EXPECT_EQ(ResolveParameters(merged, {.vocab_size = 100, .max_decoder_tokens = 16})->spec.max_length, 16);
  EXPECT_THAT(Refusal({"max_length=65"}), HasSubstr("max_length is 65; allowed is 2 to 64"));
  EXPECT_THAT(Refusal({"max_new_tokens=64"}), HasSubstr("max_new_tokens is 64; allowed is 1 to 63"));
  EXPECT_THAT(Refusal({"max_length=1"}), HasSubstr("max_length is 1; allowed is 2 to 64"));
}

TEST(ResolveTest, NewTokensWinWithinOneLayer) {
  EXPECT_EQ(Resolve({"max_length=50", "max_new_tokens=10"}).spec.max_length, 11);
  const DecodingSpec spec = Resolve({"min_length=20", "min_new_tokens=5"}).spec;
  EXPECT_EQ(spec.min_length, 6);
  EXPECT_EQ(spec.min_new_tokens, 5);
}

TEST(ResolveTest, MinimaBeyondTheMaximumMeanNoEos) {
  EXPECT_EQ(Resolve({"max_length=10", "min_length=2147483647"}).spec.min_length, 10);
  const DecodingSpec spec = Resolve({"max_length=10", "min_new_tokens=2147483646"}).spec;
  EXPECT_EQ(spec.min_new_tokens, 9);
  EXPECT_EQ(spec.min_length, 10);
}

TEST(ResolveTest, AnNgramThatCannotComeTwiceIsOff) {
  EXPECT_EQ(Resolve({"max_length=10", "no_repeat_ngram_size=9"}).spec.no_repeat_ngram_size, 9);
  EXPECT_EQ(Resolve({"max_length=10", "no_repeat_ngram_size=10"}).spec.no_repeat_ngram_size, 0);
}

TEST(ResolveTest, IdsAreTakenOrSwitchedOff) {
  const DecodingSpec on = Resolve({"forced_bos_token_id=0", "forced_eos_token_id=[2,3]", "eos_token_id=[3,2,3]"}).spec;
  EXPECT_EQ(on.forced_bos_token_id, 0);
  EXPECT_THAT(on.forced_eos_token_id, ElementsAre(2, 3));
  EXPECT_THAT(on.eos_token_id, ElementsAre(3, 2));
  const DecodingSpec off = Resolve({"forced_bos_token_id=-1", "forced_eos_token_id=[-1]", "eos_token_id=-1"}).spec;
  EXPECT_EQ(off.forced_bos_token_id, -1);
  EXPECT_THAT(off.forced_eos_token_id, IsEmpty());
  EXPECT_THAT(off.eos_token_id, IsEmpty());
}

TEST(ResolveTest, ReturnsAtMostTheBeams) {
  EXPECT_EQ(Resolve({"num_beams=4", "num_return_sequences=4"}).spec.num_return_sequences, 4);
  EXPECT_THAT(Refusal({"num_beams=2", "num_return_sequences=3"}),
              HasSubstr("num_return_sequences is 3; allowed is 1 to num_beams, which is 2"));
  EXPECT_THAT(Refusal({"num_return_sequences=2"}), HasSubstr("num_beams, which is 1"));
}

TEST(ResolveTest, ADecoderStartTokenIsNeeded) {
  EXPECT_THAT(std::string(ResolveParameters(BuiltInParameters(), kLimits).status().message()),
              HasSubstr("decoder_start_token_id is not set"));
}

TEST(ResolveTest, MergedParametersAreValidated) {
  EXPECT_THAT(Refusal({"eos_token_id=100"}), HasSubstr("eos_token_id is 100; allowed is 0 to 99"));
}

TEST(ResolveTest, OfEqualBiasesTheLastCounts) {
  const ResolvedParameters resolved = Resolve({"sequence_bias=[[[3], 1.5], [[3, 4], 2], [[3], -0.1]]"});
  ASSERT_EQ(resolved.spec.biased_sequences.size(), 2u);
  EXPECT_THAT(resolved.spec.biased_sequences[0], ElementsAre(3, 4));
  EXPECT_THAT(resolved.spec.biased_sequences[1], ElementsAre(3));
  EXPECT_THAT(resolved.spec.sequence_bias, ElementsAre(2.0f, -0.1f));
  ASSERT_EQ(resolved.effective.sequence_bias_size(), 2);
  EXPECT_EQ(resolved.effective.sequence_bias(1).bias(), -0.1);
  EXPECT_TRUE(Resolve({"sequence_bias=[[[-1], 0]]"}).spec.biased_sequences.empty());
}

TEST(ResolveTest, TheDecaysFactorIsBoundByTheLength) {
  const auto decay = Resolve({"exponential_decay_length_penalty=[4, 1.25]"}).spec.exponential_decay_length_penalty;
  EXPECT_EQ(decay.start_index, 4);
  EXPECT_EQ(decay.factor, 1.25);
  EXPECT_EQ(Resolve({"exponential_decay_length_penalty=[4, 1000]", "max_new_tokens=14"})
                .spec.exponential_decay_length_penalty.factor,
            1000);
  EXPECT_THAT(Refusal({"exponential_decay_length_penalty=[4, 1.5]"}), HasSubstr("no eos_token_id is set"));
  EXPECT_THAT(Refusal({"exponential_decay_length_penalty=[4, 1000]", "max_new_tokens=15", "eos_token_id=2"}),
              HasSubstr("exponential_decay_length_penalty.factor is 1000 for 11 places up to max_length; allowed is at "
                        "most 533.67"));
}

TEST(ResolveTest, SamplingIsResolvedWhereItActs) {
  const ResolvedParameters idle = Resolve({"top_k=50"});
  EXPECT_FALSE(idle.spec.do_sample);
  EXPECT_FALSE(idle.effective.has_top_k());
  const ResolvedParameters some = Resolve(
      {"do_sample=true", "temperature=0.7", "top_p=0.9", "num_return_sequences=5", "seed=18446744073709551615"});
  EXPECT_TRUE(some.spec.do_sample);
  EXPECT_EQ(some.spec.most_rows(), 5);
  EXPECT_EQ(some.spec.sampling.temperature, 0.7f);
  EXPECT_EQ(some.spec.sampling.top_k, 50);
  EXPECT_EQ(some.spec.sampling.top_p, 0.9);
  EXPECT_EQ(some.spec.sampling.seed, ~uint64_t{0});
  EXPECT_EQ(some.effective.temperature(), 0.7);
  EXPECT_EQ(some.effective.top_k(), 50);
  EXPECT_EQ(some.effective.seed(), ~uint64_t{0});
  EXPECT_THAT(Refusal({"do_sample=true", "num_beams=4"}), HasSubstr("num_beams is 4 and do_sample is true"));
}

TEST(ResolveTest, GroupsDivideTheBeamsAndKeepApart) {
  const DecodingSpec spec =
      Resolve({"num_beams=6", "num_beam_groups=3", "diversity_penalty=0.5", "pad_token_id=1"}).spec;
  EXPECT_EQ(spec.num_beam_groups, 3);
  EXPECT_EQ(spec.diversity_penalty, 0.5f);
  EXPECT_EQ(spec.pad_token_id, 1);
  EXPECT_EQ(Resolve({"num_beam_groups=0", "pad_token_id=-1"}).spec.num_beam_groups, 1);
  EXPECT_THAT(Refusal({"num_beams=4", "num_beam_groups=3", "diversity_penalty=1"}),
              HasSubstr("num_beam_groups is 3; allowed are divisors of num_beams, which is 4"));
  EXPECT_THAT(Refusal({"num_beams=4", "num_beam_groups=2"}), HasSubstr("diversity_penalty is 0; allowed is above 0"));
  EXPECT_THAT(Refusal({"num_beams=4", "diversity_penalty=1"}), HasSubstr("diversity_penalty is 1; allowed is 0 where"));
  EXPECT_THAT(Refusal({"num_beams=4", "num_beam_groups=2", "diversity_penalty=1", "pad_token_id=100"}),
              HasSubstr("pad_token_id is 100; allowed is 0 to 99"));
  EXPECT_THAT(Refusal({"do_sample=true", "num_beam_groups=2"}),
              HasSubstr("num_beam_groups is 2 and do_sample is true"));
}

TEST(ResolveTest, StopStringsAreForOneBeam) {
  EXPECT_THAT(Resolve({"stop_strings=[a, b]"}).effective.stop_strings(), ElementsAre("a", "b"));
  EXPECT_THAT(Resolve({}).effective.stop_strings(), ElementsAre(""));
  EXPECT_THAT(Refusal({"stop_strings=[a]", "num_beams=2"}),
              HasSubstr("stop_strings is a list of 1 and num_beams is 2"));
  EXPECT_EQ(Resolve({"stop_strings=['']", "num_beams=2"}).spec.num_beams, 2);
}

TEST(MergeTest, ACheckpointsSamplingActsOnceALayerAboveSamples) {
  const auto checkpoint = Layer({"do_sample=false", "temperature=0.7", "top_k=5"});
  EXPECT_EQ(Merge({checkpoint, Layer({"do_sample=true"})}).temperature(), 0.7);
  EXPECT_EQ(Merge({checkpoint, Layer({"do_sample=true", "top_k=9"})}).top_k(), 9);
  // It was never asked for, so what does not act is no error.
  EXPECT_FALSE(Merge({checkpoint}).do_sample());
}

TEST(MergeTest, BadWordsOfEitherKindReplaceThoseBelow) {
  const auto below = Layer({"bad_words=[a]", "bad_words_ids=[[1]]"});
  const auto ids = Merge({below, Layer({"bad_words_ids=[[2]]"})}), texts = Merge({below, Layer({"bad_words=[b]"})});
  EXPECT_EQ(ids.bad_words_size(), 0);
  EXPECT_THAT(ids.bad_words_ids(0).ids(), ElementsAre(2));
  EXPECT_THAT(texts.bad_words(), ElementsAre("b"));
  EXPECT_EQ(texts.bad_words_ids_size(), 0);
}

TEST(ResolveTest, WhatIsForcedIsNotAllSuppressed) {
  EXPECT_THAT(Refusal({"forced_bos_token_id=5", "suppress_tokens=[4, 5]"}),
              HasSubstr("suppress_tokens has every token of forced_bos_token_id"));
  EXPECT_THAT(Refusal({"forced_eos_token_id=[5, 6]", "suppress_tokens=[4, 5, 6]"}), HasSubstr("forced_eos_token_id"));
  Resolve({"forced_eos_token_id=[5, 6]", "suppress_tokens=[4, 5]"});
  Resolve({"forced_bos_token_id=-1", "forced_eos_token_id=-1", "suppress_tokens=[4, 5]"});
}

TEST(MergeTest, MessagesReplaceAsAWhole) {
  const auto merged = Merge({Layer({"exponential_decay_length_penalty=[7, 2]", "sequence_bias=[[[3], 1.5]]"}),
                             Layer({"exponential_decay_length_penalty=[0, 3]", "sequence_bias=[[[4], 2]]"})});
  EXPECT_EQ(merged.exponential_decay_length_penalty().start_index(), 0);
  ASSERT_EQ(merged.sequence_bias_size(), 1);
  EXPECT_THAT(merged.sequence_bias(0).ids(), ElementsAre(4));
}

TEST(EffectiveTest, HasEveryHonouredParameter) {
  const v1::DecodingParameters effective = Resolve({"num_beams=3", "length_penalty=0.6", "early_stopping=never",
                                                    "max_new_tokens=9", "min_length=4", "max_time=2.5"})
                                               .effective;
  EXPECT_EQ(effective.num_beams(), 3);
  EXPECT_EQ(effective.length_penalty(), 0.6);  // as it was given, not through float32
  EXPECT_EQ(effective.early_stopping(), v1::EARLY_STOPPING_NEVER);
  EXPECT_EQ(effective.max_length(), 10);
  EXPECT_EQ(effective.max_new_tokens(), 9);
  EXPECT_EQ(effective.min_length(), 4);
  EXPECT_EQ(effective.min_new_tokens(), 3);
  EXPECT_EQ(effective.max_time(), 2.5);
  EXPECT_EQ(effective.forced_bos_token_id(), -1);
  EXPECT_THAT(effective.forced_eos_token_id(), ElementsAre(-1));
  EXPECT_THAT(effective.eos_token_id(), ElementsAre(2));
  for (const Rule& rule : ParameterRules()) {
    EXPECT_EQ(IsSet(effective, FieldOf(rule)), rule.support == Support::kHonoured) << rule.name;
    EXPECT_EQ(IsSet(Resolve({"do_sample=true"}).effective, FieldOf(rule)), rule.support != Support::kText) << rule.name;
  }
  EXPECT_EQ(effective.reset_size(), 0);
  EXPECT_TRUE(effective.has_num_return_sequences());
  EXPECT_TRUE(effective.has_no_repeat_ngram_size());
  EXPECT_EQ(effective.decoder_start_token_id(), 2);
  EXPECT_FALSE(effective.has_temperature());
}

TEST(EffectiveTest, SaysWhereMaxTimeIsOff) {
  EXPECT_EQ(Resolve({}).effective.max_time(), -1);
  EXPECT_EQ(Resolve({"max_time=3", "max_time=null"}).effective.max_time(), -1);
  EXPECT_EQ(Resolve({"max_time=-1"}).effective.max_time(), -1);
}

TEST(EffectiveTest, SentBackItMeansTheSame) {
  for (const auto& resolved :
       {Resolve({}), Resolve({"min_length=9", "num_beams=4", "eos_token_id=-1"}), Resolve({"min_new_tokens=3"}),
        Resolve({"forced_eos_token_id=2", "forced_bos_token_id=5", "max_length=12", "early_stopping=true"})}) {
    const auto again = ResolveParameters(
        Merge({Layer({"max_length=40", "min_length=30", "forced_bos_token_id=1", "eos_token_id=[7,8]"}),
               resolved.effective}),
        kLimits);
    ASSERT_TRUE(again.ok()) << again.status();
    // min_length 0 and 1 are the same: there is the start token.
    EXPECT_EQ(std::max(1, again->spec.min_length), std::max(1, resolved.spec.min_length));
    EXPECT_EQ(again->spec.max_length, resolved.spec.max_length);
    EXPECT_EQ(again->spec.num_beams, resolved.spec.num_beams);
    EXPECT_EQ(again->spec.early_stopping, resolved.spec.early_stopping);
    EXPECT_EQ(again->spec.forced_bos_token_id, resolved.spec.forced_bos_token_id);
    EXPECT_EQ(again->spec.forced_eos_token_id, resolved.spec.forced_eos_token_id);
    EXPECT_EQ(again->spec.eos_token_id, resolved.spec.eos_token_id);
  }
}

}  // namespace
}  // namespace elserve
