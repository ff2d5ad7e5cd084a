// Values as JSON, YAML and the command line write them become fields.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/parameters/parameters.h"
#include "server/parameters/shown.h"

namespace elserve {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::DecodingParameters Set(std::string_view text) {
  v1::DecodingParameters parameters;
  const absl::Status status = SetParameterFromText(text, &parameters);
  EXPECT_TRUE(status.ok()) << text << ": " << status;
  return parameters;
}

TEST(SetParameterTest, EveryTypeOfField) {
  EXPECT_EQ(Set("num_beams=4").num_beams(), 4);
  EXPECT_EQ(Set("forced_bos_token_id=-1").forced_bos_token_id(), -1);
  EXPECT_EQ(Set("length_penalty=0.6").length_penalty(), 0.6);
  EXPECT_EQ(Set("length_penalty=2").length_penalty(), 2);
  EXPECT_TRUE(Set("do_sample=true").do_sample());
  EXPECT_EQ(Set("seed=18446744073709551615").seed(), 18446744073709551615u);
  EXPECT_THAT(Set("eos_token_id=2").eos_token_id(), ElementsAre(2));
  EXPECT_THAT(Set("eos_token_id=[2, 3]").eos_token_id(), ElementsAre(2, 3));
  EXPECT_THAT(Set("stop_strings=end").stop_strings(), ElementsAre("end"));
  EXPECT_THAT(Set(R"(stop_strings=["a", "b"])").stop_strings(), ElementsAre("a", "b"));
  const v1::DecodingParameters words = Set("bad_words_ids=[[1, 2], [3]]");
  ASSERT_EQ(words.bad_words_ids_size(), 2);
  EXPECT_THAT(words.bad_words_ids(0).ids(), ElementsAre(1, 2));
  EXPECT_THAT(words.bad_words_ids(1).ids(), ElementsAre(3));
  const v1::DecodingParameters biases = Set("sequence_bias=[[[1, 2], -2.5], [[3], 4]]");
  ASSERT_EQ(biases.sequence_bias_size(), 2);
  EXPECT_THAT(biases.sequence_bias(0).ids(), ElementsAre(1, 2));
  EXPECT_EQ(biases.sequence_bias(0).bias(), -2.5);
  EXPECT_THAT(biases.sequence_bias(1).ids(), ElementsAre(3));
  EXPECT_EQ(biases.sequence_bias(1).bias(), 4);
  const v1::DecodingParameters decay = Set("exponential_decay_length_penalty=[15, 1.05]");
  EXPECT_EQ(decay.exponential_decay_length_penalty().start_index(), 15);
  EXPECT_EQ(decay.exponential_decay_length_penalty().factor(), 1.05);
}

TEST(SetParameterTest, EarlyStoppingIsFalseTrueOrNever) {
  EXPECT_EQ(Set("early_stopping=false").early_stopping(), v1::EARLY_STOPPING_FALSE);
  EXPECT_EQ(Set("early_stopping=true").early_stopping(), v1::EARLY_STOPPING_TRUE);
  EXPECT_EQ(Set("early_stopping=never").early_stopping(), v1::EARLY_STOPPING_NEVER);
  EXPECT_EQ(Set("early_stopping=\"never\"").early_stopping(), v1::EARLY_STOPPING_NEVER);
}

TEST(SetParameterTest, TheLastValueCounts) {
  v1::DecodingParameters parameters;
  ASSERT_TRUE(SetParameterFromText("eos_token_id=[2,3]", &parameters).ok());
  ASSERT_TRUE(SetParameterFromText("eos_token_id=4", &parameters).ok());
  EXPECT_THAT(parameters.eos_token_id(), ElementsAre(4));
}

TEST(SetParameterTest, BadValuesNameParameterAndValue) {
  const struct {
    const char* text;
    const char* message;
  } kCases[] = {
      {"beams=4", "beams is no decoding parameter"},
      {"num_beams", "NAME=VALUE"},
      {"=4", "NAME=VALUE"},
      {"num_beams=", "NAME=VALUE"},
      {"reset=num_beams", "reset is no decoding parameter"},
      {"reset=null", "reset is no decoding parameter"},
      {"num_beams=four", "num_beams is \"four\"; allowed is an integer"},
      {"num_beams=4.0", "num_beams is 4.0; allowed is an integer"},
      {"num_beams=true", "num_beams is true; allowed is an integer"},
      {"num_beams=4294967297", "num_beams is 4294967297; allowed is an integer"},
      {"num_beams=-4294967297", "num_beams is -4294967297; allowed is an integer"},
      {"num_beams=18446744073709551615", "num_beams is 18446744073709551615; allowed is an integer"},
      {"num_beams=[4]", "num_beams is [4]; allowed is an integer"},
      {"num_beams=\"4\"", "num_beams is \"4\"; allowed is an integer"},
      {"num_beams={a: b}", "num_beams is {a: b}; allowed is what YAML writes as a number"},
      {"num_beams=[4", "num_beams is [4; allowed is what YAML writes as a number"},
      {"length_penalty=long", "length_penalty is \"long\"; allowed is a number"},
      {"length_penalty=true", "length_penalty is true; allowed is a number"},
      {"early_stopping=sometimes", "early_stopping is \"sometimes\"; allowed is false, true, never"},
      {"early_stopping=1", "early_stopping is 1; allowed is false, true, never"},
      {"do_sample=1", "do_sample is 1; allowed is true or false"},
      {"seed=-1", "seed is -1; allowed is 0 to"},
      {"eos_token_id=[2,\"x\"]", "eos_token_id is \"x\"; allowed is an integer"},
      {"sequence_bias=[1, 2]", "sequence_bias is 1; allowed is a list of [ids, bias]"},
      {"sequence_bias=[[[1], 2, 3]]", "sequence_bias is [[1],2,3]; allowed is a list of [ids, bias]"},
      {"sequence_bias=[[[1], x]]", "sequence_bias.bias is \"x\"; allowed is a number"},
      {"sequence_bias=[[[x], 1]]", "sequence_bias.ids is \"x\"; allowed is an integer"},
      {"exponential_decay_length_penalty=1.5",
       "exponential_decay_length_penalty is 1.5; allowed is [start_index, factor]"},
      {"exponential_decay_length_penalty=[1.5, 2]",
       "exponential_decay_length_penalty.start_index is 1.5; allowed is an integer"},
      {"stop_strings=[1]", "stop_strings is 1; allowed is a text"},
      {"stop_strings=[\"a\xff\"]", "allowed is a text in UTF-8"},
  };
  for (const auto& test : kCases) {
    v1::DecodingParameters parameters;
    const absl::Status status = SetParameterFromText(test.text, &parameters);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << test.text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(test.message)) << test.text;
    EXPECT_EQ(parameters.ByteSizeLong(), 0u) << test.text;
  }
}

TEST(SetParameterTest, NullDropsWhatIsBelow) {
  v1::DecodingParameters parameters = Set("num_beams=4");
  ASSERT_TRUE(SetParameterFromText("num_beams=null", &parameters).ok());
  ASSERT_TRUE(SetParameterFromText("length_penalty=~", &parameters).ok());
  EXPECT_FALSE(parameters.has_num_beams());
  EXPECT_THAT(parameters.reset(), ElementsAre("num_beams", "length_penalty"));
  // The last value counts, once.
  ASSERT_TRUE(SetParameterFromText("num_beams=null", &parameters).ok());
  EXPECT_THAT(parameters.reset(), ElementsAre("length_penalty", "num_beams"));
  ASSERT_TRUE(SetParameterFromText("num_beams=2", &parameters).ok());
  EXPECT_EQ(parameters.num_beams(), 2);
  EXPECT_THAT(parameters.reset(), ElementsAre("length_penalty"));
}

TEST(SetParameterTest, AListWithoutEntriesReplacesTheOneBelow) {
  v1::DecodingParameters parameters = Set("eos_token_id=[2, 3]");
  ASSERT_TRUE(SetParameterFromText("eos_token_id=[]", &parameters).ok());
  EXPECT_EQ(parameters.eos_token_id_size(), 0);
  EXPECT_THAT(parameters.reset(), ElementsAre("eos_token_id"));
}

TEST(SetParameterTest, TextsAreReadAsYaml) {
  EXPECT_THAT(Set("stop_strings=[a, 'b c', \"d\\n\"]").stop_strings(), ElementsAre("a", "b c", "d\n"));
  EXPECT_THAT(Set("stop_strings='4'").stop_strings(), ElementsAre("4"));
  EXPECT_EQ(Set("bad_words_ids=[[1,2]]").bad_words_ids(0).ids_size(), 2);
  v1::DecodingParameters parameters;
  EXPECT_FALSE(SetParameterFromText("stop_strings=4", &parameters).ok());
}

TEST(SetParameterTest, IntegersKeepThirtyTwoBits) {
  EXPECT_EQ(Set("min_length=2147483647").min_length(), 2147483647);
  EXPECT_EQ(Set("min_length=-2147483648").min_length(), -2147483647 - 1);
  v1::DecodingParameters parameters;
  EXPECT_FALSE(SetParameterFromText("min_length=2147483648", &parameters).ok());
  EXPECT_FALSE(SetParameterFromText("min_length=-2147483649", &parameters).ok());
}

TEST(SetParameterTest, LongValuesAreShownInPart) {
  v1::DecodingParameters parameters;
  const absl::Status status = SetParameter("num_beams", std::string(100000, 'x'), &parameters);
  EXPECT_LT(status.message().size(), 200u);
  EXPECT_LT(SetParameter(std::string(100000, 'x'), 1, &parameters).message().size(), 200u);
  EXPECT_LT(SetParameterFromText(std::string(100000, 'x'), &parameters).message().size(), 200u);
}

TEST(ShownTest, CutsBetweenCharacters) {
  EXPECT_EQ(Shown(std::string(80, 'x')), std::string(80, 'x'));
  EXPECT_EQ(Shown(std::string(81, 'x')), std::string(80, 'x') + "...");
  EXPECT_EQ(Shown(std::string(79, 'x') + "\u00e9y"), std::string(79, 'x') + "...");
  EXPECT_EQ(Shown(std::string(78, 'x') + "\u00e9y"), std::string(78, 'x') + "\u00e9...");
  EXPECT_EQ(Shown(std::string(100, '\x80')), "...");
  EXPECT_EQ(Shown(nlohmann::json({1, "a"})), "[1,\"a\"]");
}

}  // namespace
}  // namespace elserve
