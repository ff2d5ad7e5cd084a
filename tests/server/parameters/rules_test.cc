// The table of parameters: what each may be.
#include "server/parameters/rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/parameters/parameters.h"

namespace elserve {
namespace {

using google::protobuf::FieldDescriptor;
using ::testing::HasSubstr;

constexpr ModelLimits kLimits{.vocab_size = 100, .max_decoder_tokens = 64};

v1::DecodingParameters Set(std::string_view text) {
  v1::DecodingParameters parameters;
  const absl::Status status = SetParameterFromText(text, &parameters);
  EXPECT_TRUE(status.ok()) << text << ": " << status;
  return parameters;
}

TEST(RulesTest, EveryFieldHasOneRow) {
  std::set<std::string_view> names;
  for (const Rule& rule : ParameterRules()) {
    EXPECT_TRUE(names.insert(rule.name).second) << rule.name << " is there twice";
    EXPECT_NE(v1::DecodingParameters::descriptor()->FindFieldByName(std::string(rule.name)), nullptr) << rule.name;
  }
  EXPECT_TRUE(names.insert("reset").second) << "reset is no parameter";
  EXPECT_EQ(names.size(), static_cast<size_t>(v1::DecodingParameters::descriptor()->field_count()));
}

TEST(RulesTest, NothingSetIsGood) { EXPECT_TRUE(ValidateParameters({}, &kLimits).ok()); }

TEST(RulesTest, BoundsAreAllowedAndWhatIsBeyondIsNot) {
  const struct {
    const char* name;
    std::vector<const char*> good;
    std::vector<const char*> bad;
    const char* allowed;
  } kCases[] = {
      {"max_length", {"2", "64"}, {"-1", "0", "1", "65", "2147483647"}, "2 to 64"},
      {"max_new_tokens", {"1", "63"}, {"-5", "0", "64"}, "1 to 63"},
      {"min_length", {"0", "1000000"}, {"-1"}, "0 to 2147483647"},
      {"min_new_tokens", {"0", "2147483646"}, {"-1", "2147483647"}, "0 to 2147483646"},
      {"max_time", {"0.001", "86400", "-1"}, {"-2", "0", "86400.5", "1e300"}, "above 0 to 86400, or -1: off"},
      {"num_beams", {"1", "32"}, {"-1", "0", "33"}, "1 to 32"},
      {"num_return_sequences", {"1", "32"}, {"0", "33"}, "1 to 32"},
      {"length_penalty", {"-10", "0", "10"}, {"-10.5", "11", "1e300"}, "-10 to 10"},
      {"no_repeat_ngram_size", {"0", "3", "2147483647"}, {"-1"}, "0 to 2147483647"},
      {"forced_bos_token_id", {"-1", "0", "99"}, {"-2", "100"}, "0 to 99, or -1: off"},
      {"forced_eos_token_id", {"-1", "0", "[1, 99]"}, {"-2", "100", "[-1, 2]", "[2, 100]"}, "0 to 99, or [-1] alone"},
      {"decoder_start_token_id", {"0", "99"}, {"-1", "100"}, "0 to 99"},
      {"eos_token_id", {"0", "[-1]", "[2, 99]"}, {"-2", "100", "[2, -1]"}, "0 to 99, or [-1] alone"},
  };
  for (const auto& test : kCases) {
    for (const char* value : test.good) {
      const std::string text = std::string(test.name) + "=" + value;
      EXPECT_TRUE(ValidateParameters(Set(text), &kLimits).ok()) << text;
    }
    for (const char* value : test.bad) {
      const std::string text = std::string(test.name) + "=" + value;
      const absl::Status status = ValidateParameters(Set(text), &kLimits);
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
      EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(test.name) + " is ")) << text;
      EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("allowed is ") + test.allowed)) << text;
    }
  }
}

TEST(RulesTest, ModelBoundsHoldOnlyWhereTheModelIsKnown) {
  EXPECT_TRUE(ValidateParameters(Set("max_length=65"), nullptr).ok());
  EXPECT_TRUE(ValidateParameters(Set("eos_token_id=100"), nullptr).ok());
  EXPECT_FALSE(ValidateParameters(Set("eos_token_id=-7"), nullptr).ok());
}

TEST(RulesTest, NotANumberIsRefused) {
  v1::DecodingParameters parameters;
  parameters.set_length_penalty(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(std::string(ValidateParameters(parameters, nullptr).message()), HasSubstr("length_penalty is nan"));
  parameters.set_length_penalty(std::numeric_limits<double>::infinity());
  EXPECT_FALSE(ValidateParameters(parameters, nullptr).ok());
  parameters.clear_length_penalty();
  parameters.set_temperature(std::numeric_limits<double>::quiet_NaN());
  EXPECT_FALSE(ValidateParameters(parameters, nullptr).ok());
}

TEST(RulesTest, AtMost32EosIds) {
  v1::DecodingParameters parameters;
  for (int i = 0; i < 32; ++i) parameters.add_eos_token_id(i);
  EXPECT_TRUE(ValidateParameters(parameters, &kLimits).ok());
  parameters.add_eos_token_id(32);
  EXPECT_THAT(std::string(ValidateParameters(parameters, &kLimits).message()),
              HasSubstr("eos_token_id is a list of 33; allowed is at most 32"));
}

TEST(RulesTest, EnumValuesOutsideTheEnumAreRefused) {
  v1::DecodingParameters parameters;
  parameters.set_early_stopping(static_cast<v1::EarlyStopping>(7));
  EXPECT_THAT(std::string(ValidateParameters(parameters, nullptr).message()),
              HasSubstr("early_stopping is 7; allowed is false, true, never"));
  parameters.set_early_stopping(v1::EARLY_STOPPING_UNSPECIFIED);
  EXPECT_TRUE(ValidateParameters(parameters, nullptr).ok());
}

TEST(RulesTest, SamplingHasItsRangesWhetherOrNotItActs) {
  const struct {
    const char* name;
    std::vector<const char*> good, bad;
    const char* allowed;
  } kCases[] = {
      {"temperature", {"0.00001", "0.7", "100000"}, {"0", "-1", "1e6"}, "1e-05 to 100000"},
      {"top_h", {"0", "0.5", "1"}, {"-0.1", "1.1"}, "0 to 1"},
      {"top_k", {"0", "1", "2147483647"}, {"-1"}, "0 to 2147483647"},
      {"top_p", {"0", "0.9", "1"}, {"-0.1", "1.1"}, "0 to 1"},
      {"min_p", {"0", "1"}, {"-0.1", "1.1"}, "0 to 1"},
      {"typical_p", {"0.001", "1"}, {"0", "1.1"}, "above 0 to 1"},
      {"epsilon_cutoff", {"0", "0.999"}, {"-0.1", "1"}, "0 to below 1"},
      {"eta_cutoff", {"0", "0.999"}, {"-0.1", "1"}, "0 to below 1"},
      {"num_beam_groups", {"0", "1", "32"}, {"-1", "33"}, "0 to 32"},
      {"diversity_penalty", {"0", "1.5"}, {"-0.5"}, "0 to 10000"},
      {"pad_token_id", {"-1", "0", "99", "100"}, {"-2"}, "0 to 2147483647, or -1: off"},
      {"stop_strings", {"[x, '.']", "['']"}, {"[x, '']"}, "texts of 1 to 256 bytes, or an empty one alone: off"},
      {"bad_words", {"[x, y z]"}, {"['']"}, "texts of 1 to 256 bytes"},
  };
  for (const auto& test : kCases) {
    for (const char* value : test.good) {
      const std::string text = std::string(test.name) + "=" + value;
      EXPECT_TRUE(ValidateParameters(Set(text), &kLimits).ok()) << text;
    }
    for (const char* value : test.bad) {
      const std::string text = std::string(test.name) + "=" + value;
      const std::string message(ValidateParameters(Set(text), &kLimits).message());
      EXPECT_THAT(message, HasSubstr(std::string(test.name) + " is ")) << text;
      EXPECT_THAT(message, HasSubstr(std::string("allowed is ") + test.allowed)) << text;
    }
  }
}

TEST(RulesTest, SamplingIsAnErrorWhereNothingIsDrawn) {
  const auto check = [](const char* text, bool do_sample) {
    v1::DecodingParameters merged = Set(text);
    merged.set_do_sample(do_sample);
    return std::string(CheckSampling(Set(text), merged).message());
  };
  for (const char* text : {"temperature=0.7", "top_h=0.5", "top_k=10", "top_p=0.9", "min_p=0.1", "typical_p=0.5",
                           "epsilon_cutoff=0.001", "eta_cutoff=0.001", "seed=0"}) {
    EXPECT_EQ(check(text, true), "");
    EXPECT_THAT(check(text, false), HasSubstr("do_sample is not true; allowed is do_sample: true with it, or "))
        << text;
  }
  for (const char* text : {"temperature=1", "top_h=0", "top_k=0", "top_k=50", "top_p=1", "min_p=0", "typical_p=1",
                           "epsilon_cutoff=0", "eta_cutoff=0", "num_beams=4"}) {
    EXPECT_EQ(check(text, false), "") << text;
  }
  EXPECT_EQ(check("top_k=10", false),
            "top_k is 10 and do_sample is not true; allowed is do_sample: true with it, or 0 or 50");
  EXPECT_EQ(check("seed=7", false),
            "seed is 7 and do_sample is not true; allowed is do_sample: true with it, or to leave it out");
}

TEST(RulesTest, ResetNamesParameters) {
  v1::DecodingParameters parameters;
  for (const Rule& rule : ParameterRules()) parameters.add_reset(std::string(rule.name));
  EXPECT_TRUE(ValidateParameters(parameters, &kLimits).ok());
  parameters.add_reset("num_beams");
  EXPECT_THAT(std::string(ValidateParameters(parameters, &kLimits).message()),
              HasSubstr("reset is a list of 40; allowed is at most 39"));
  for (const char* name : {"beams", "reset", ""}) {
    parameters.Clear();
    parameters.add_reset("num_beams");
    parameters.add_reset(name);
    const absl::Status status = ValidateParameters(parameters, nullptr);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string("reset names \"") + name + "\"")) << name;
  }
}

// Rows other than the table's: what a parameter of each type could be held to.

struct Values {
  std::vector<const char*> good, bad;  // in a range of 1 to 3, lists of at most 2
};

Values ValuesOf(const FieldDescriptor* field) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return {.good = {"true", "false"}, .bad = {}};
    case FieldDescriptor::CPPTYPE_ENUM:
      return {.good = {"false", "true", "never"}, .bad = {}};
    case FieldDescriptor::CPPTYPE_STRING:
      return {.good = {"x", "[abc, é]"}, .bad = {"['']", "[x, abcd]", "[x, x, x]"}};
    default:
      if (field->is_repeated()) return {.good = {"1", "[1, 3]"}, .bad = {"0", "[1, 4]", "[1, 1, 1]"}};
      return {.good = {"1", "3"}, .bad = {"0", "4"}};
  }
}

TEST(CheckTest, AnyFieldCanBecomeHonoured) {
  for (const Rule& rule : ParameterRules()) {
    if (FieldOf(rule)->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) continue;  // its type has rows of its own
    const Rule honoured{
        .name = rule.name, .support = Support::kHonoured, .range = {.low = 1, .high = 3}, .max_items = 2};
    const Values values = ValuesOf(FieldOf(rule));
    for (const char* value : values.good) {
      const std::string text = std::string(rule.name) + "=" + value;
      const absl::Status status = CheckParameter(honoured, Set(text), nullptr);
      EXPECT_TRUE(status.ok()) << text << ": " << status;
    }
    for (const char* value : values.bad) {
      const std::string text = std::string(rule.name) + "=" + value;
      const std::string message(CheckParameter(honoured, Set(text), nullptr).message());
      EXPECT_THAT(message, HasSubstr(std::string(rule.name) + " is ")) << text;
      EXPECT_THAT(message, HasSubstr("allowed is ")) << text;
    }
  }
}

TEST(CheckTest, MessagesSayWhatIsAllowed) {
  const auto message = [](const Rule& rule, const std::string& value) {
    const absl::Status status = CheckParameter(rule, Set(std::string(rule.name) + "=" + value), &kLimits);
    return std::string(status.message());
  };
  EXPECT_EQ(
      message({.name = "bad_words_ids", .support = Support::kHonoured, .range = {}, .max_items = 4}, "[[3], [1, 100]]"),
      "bad_words_ids[1].ids is a list with 100; allowed is 0 to 99");
  EXPECT_EQ(
      message({.name = "stop_strings", .support = Support::kHonoured, .range = {.low = 1, .high = 3}, .max_items = 4},
              "[x, abcd]"),
      "stop_strings is a list with a text of 4 bytes; allowed is texts of 1 to 3 bytes");
  EXPECT_EQ(
      message({.name = "seed", .support = Support::kHonoured, .range = {.low = 0, .high = 9}}, "18446744073709551615"),
      "seed is 18446744073709551615; allowed is 0 to 9");
}

TEST(CheckTest, ListsOfIdsHoldAtLeastOne) {
  v1::DecodingParameters parameters;
  parameters.add_bad_words_ids();
  EXPECT_THAT(std::string(CheckParameter(*FindRule("bad_words_ids"), parameters, nullptr).message()),
              HasSubstr("bad_words_ids[0].ids is a list of 0; allowed is 1 to 32"));
  for (int id = 0; id < 33; ++id) parameters.mutable_bad_words_ids(0)->add_ids(id);
  EXPECT_THAT(std::string(CheckParameter(*FindRule("bad_words_ids"), parameters, nullptr).message()),
              HasSubstr("bad_words_ids[0].ids is a list of 33; allowed is 1 to 32"));
}

TEST(CheckTest, ListsOfListsCanBeSwitchedOff) {
  const auto check = [](const char* words) {
    return std::string(
        CheckParameter(*FindRule("bad_words_ids"), Set(std::string("bad_words_ids=") + words), &kLimits).message());
  };
  EXPECT_EQ(check("[[-1]]"), "");
  EXPECT_EQ(check("[[0], [99, 0]]"), "");
  EXPECT_EQ(check("[[-1], [3]]"), "bad_words_ids[0].ids is -1; allowed is 0 to 99; -1 alone: off");
  EXPECT_EQ(check("[[-1, 3]]"), "bad_words_ids[0].ids is a list with -1; allowed is 0 to 99; -1 alone: off");
  EXPECT_EQ(check("[[100]]"), "bad_words_ids[0].ids is 100; allowed is 0 to 99; -1 alone: off");
}

TEST(CheckTest, MessagesAreHeldToTheRowsOfTheirFields) {
  const auto check = [](const char* text) { return std::string(ValidateParameters(Set(text), &kLimits).message()); };
  EXPECT_EQ(check("sequence_bias=[[[1, 99], -10000], [[0], 2.5]]"), "");
  EXPECT_EQ(check("sequence_bias=[[[-1], 0]]"), "");
  EXPECT_EQ(check("sequence_bias=[[[1], 2], [[1, 100], 2]]"),
            "sequence_bias[1].ids is a list with 100; allowed is 0 to 99; -1 alone: off");
  EXPECT_EQ(check("sequence_bias=[[[1], 10001]]"),
            "sequence_bias[0].bias is 10001; allowed is -10000 to 10000; -1 alone: off");
  EXPECT_EQ(check("exponential_decay_length_penalty=[0, 1000]"), "");
  EXPECT_EQ(check("exponential_decay_length_penalty=[-1, 1.5]"),
            "exponential_decay_length_penalty.start_index is -1; allowed is 0 to 2147483647");
  EXPECT_EQ(check("exponential_decay_length_penalty=[3, 0]"),
            "exponential_decay_length_penalty.factor is 0; allowed is 0.001 to 1000");
  v1::DecodingParameters many;
  for (int i = 0; i < 257; ++i) many.add_sequence_bias()->add_ids(i % 100);
  EXPECT_THAT(std::string(ValidateParameters(many, &kLimits).message()),
              HasSubstr("sequence_bias is a list of 257; allowed is at most 256"));
}

TEST(CheckTest, RangesMayBeOpen) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const struct {
    Range range;
    std::vector<double> good, bad;
    const char* allowed;
  } kCases[] = {
      {{.low = 0, .high = 1}, {0, 0.5, 1}, {-0.01, 1.01, kInfinity}, "0 to 1"},
      {{.low = 0, .high = 1, .above_low = true}, {1e-9, 1}, {0, 1.01}, "above 0 to 1"},
      {{.low = 0, .high = 1, .below_high = true}, {0, 0.999}, {1}, "0 to below 1"},
      {{.low = 0, .high = 1, .above_low = true, .below_high = true}, {0.5}, {0, 1}, "above 0 to below 1"},
      {{.low = 0, .high = kInfinity, .above_low = true, .below_high = true}, {1e300}, {0, kInfinity}, "above 0"},
      {{.low = 0.5, .high = kInfinity, .below_high = true}, {0.5}, {0.4, kInfinity}, "0.5 or more"},
  };
  for (const auto& test : kCases) {
    const Rule rule{.name = "temperature", .support = Support::kHonoured, .range = test.range};
    v1::DecodingParameters parameters;
    for (const double value : test.good) {
      parameters.set_temperature(value);
      EXPECT_TRUE(CheckParameter(rule, parameters, nullptr).ok()) << test.allowed << ": " << value;
    }
    std::vector<double> bad = test.bad;
    bad.push_back(std::numeric_limits<double>::quiet_NaN());
    for (const double value : bad) {
      parameters.set_temperature(value);
      EXPECT_THAT(std::string(CheckParameter(rule, parameters, nullptr).message()),
                  ::testing::EndsWith(std::string("; allowed is ") + test.allowed))
          << value;
    }
  }
}

}  // namespace
}  // namespace elserve
