#include "server/parameters/rules.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/message.h"

namespace elserve {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

constexpr double kInt32Max = std::numeric_limits<int32_t>::max();
constexpr double kLeastPenalty = 0.001;
constexpr double kMostBias = 10000;
constexpr double kUint64Max = 18446744073709551616.0;  // the next double
constexpr double kLeastTemperature = 1e-5, kMostTemperature = 1e5;
constexpr double kMaxSeconds = 24 * 60 * 60;
constexpr double kNever = std::numeric_limits<double>::quiet_NaN();  // no value is neutral but "not set"

// length_penalty: new_tokens ** 10 stays a float32 for every length up to 7131.
constexpr Rule kRules[] = {
    {"max_length", Support::kHonoured, {2, kInt32Max}, Bound::kLength},
    {"max_new_tokens", Support::kHonoured, {1, kInt32Max}, Bound::kNewTokens},
    {"min_length", Support::kHonoured, {0, kInt32Max}},
    {"min_new_tokens", Support::kHonoured, {0, kInt32Max - 1}},
    {"max_time", Support::kHonoured, {0, kMaxSeconds, true}, Bound::kFixed, true},
    {"num_beams", Support::kHonoured, {1, kMaxBeams}},
    {"num_return_sequences", Support::kHonoured, {1, kMaxBeams}},
    {"length_penalty", Support::kHonoured, {-10, 10}},
    {"early_stopping", Support::kHonoured, {}},
    {"no_repeat_ngram_size", Support::kHonoured, {0, kInt32Max}},
    {"forced_bos_token_id", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId, true},
    {"forced_eos_token_id", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId, true, kMaxEosIds},
    {"decoder_start_token_id", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId},
    {"eos_token_id", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId, true, kMaxEosIds},
    {"bad_words_ids", Support::kHonoured, {}, Bound::kFixed, true, kMaxBadWords},
    {"renormalize_logits", Support::kHonoured, {}},
    {"repetition_penalty", Support::kHonoured, {kLeastPenalty, 1 / kLeastPenalty}},
    {"encoder_repetition_penalty", Support::kHonoured, {kLeastPenalty, 1 / kLeastPenalty}},
    {"encoder_no_repeat_ngram_size", Support::kHonoured, {0, kInt32Max}},
    {"suppress_tokens", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId, true, kMaxSuppressTokens},
    {"begin_suppress_tokens", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId, true, kMaxSuppressTokens},
    {"sequence_bias", Support::kHonoured, {}, Bound::kFixed, true, kMaxSequenceBiases},
    {"exponential_decay_length_penalty", Support::kHonoured, {}},
    {"remove_invalid_values", Support::kHonoured, {}},
    {"do_sample", Support::kHonoured, {}},
    {"temperature", Support::kSampling, {kLeastTemperature, kMostTemperature}, Bound::kFixed, false, 0, {1, 1}},
    {"top_h", Support::kSampling, {0, 1}, Bound::kFixed, false, 0, {0, 0}},
    {"top_k", Support::kSampling, {0, kInt32Max}, Bound::kFixed, false, 0, {0, 50}},
    {"top_p", Support::kSampling, {0, 1}, Bound::kFixed, false, 0, {1, 1}},
    {"min_p", Support::kSampling, {0, 1}, Bound::kFixed, false, 0, {0, 0}},
    {"typical_p", Support::kSampling, {0, 1, true}, Bound::kFixed, false, 0, {1, 1}},
    {"epsilon_cutoff", Support::kSampling, {0, 1, false, true}, Bound::kFixed, false, 0, {0, 0}},
    {"eta_cutoff", Support::kSampling, {0, 1, false, true}, Bound::kFixed, false, 0, {0, 0}},
    {"seed", Support::kSampling, {0, kUint64Max}, Bound::kFixed, false, 0, {kNever, kNever}},
    {"num_beam_groups", Support::kHonoured, {0, kMaxBeams}},
    {"diversity_penalty", Support::kHonoured, {0, kMostBias}},
    {"pad_token_id", Support::kHonoured, {0, kInt32Max}, Bound::kFixed, true},
    {"stop_strings", Support::kHonoured, {1, kMaxStopStringBytes}, Bound::kFixed, true, kMaxStopStrings},
    {"bad_words", Support::kText, {1, kMaxStopStringBytes}, Bound::kFixed, false, kMaxBadWords / 2},
};

constexpr Rule kTokenListRules[] = {
    {"ids", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId, false, kMaxBadWordIds},
};
constexpr Rule kSequenceBiasRules[] = {
    {"ids", Support::kHonoured, {0, kInt32Max}, Bound::kTokenId, false, kMaxSequenceBiasIds},
    {"bias", Support::kHonoured, {-kMostBias, kMostBias}},
};
constexpr Rule kExponentialDecayRules[] = {
    {"start_index", Support::kHonoured, {0, kInt32Max}},
    {"factor", Support::kHonoured, {kLeastPenalty, 1 / kLeastPenalty}},
};

// Rules across parameters.

absl::Status SamplesWithoutBeams(const v1::DecodingParameters& merged, const ModelLimits&) {
  if (!merged.do_sample() || !merged.has_num_beams() || merged.num_beams() == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("num_beams is ", merged.num_beams(),
                                                 " and do_sample is true; allowed is num_beams 1 with it (this version "
                                                 "does not honour sampling of beams)"));
}

// GenerationConfig.validate of transformers 4.49.
absl::Status GroupsOfBeams(const v1::DecodingParameters& merged, const ModelLimits& limits) {
  const int groups = merged.num_beam_groups(), beams = merged.has_num_beams() ? merged.num_beams() : 1;
  if (groups <= 1) {
    if (merged.diversity_penalty() <= 0) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("diversity_penalty is ", merged.diversity_penalty(),
                                                   "; allowed is 0 where num_beam_groups is not above 1"));
  }
  if (merged.pad_token_id() >= limits.vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat("pad_token_id is ", merged.pad_token_id(), "; allowed is 0 to ",
                                                   limits.vocab_size - 1, ", or -1: off, with groups of beams"));
  }
  if (merged.do_sample()) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_beam_groups is ", groups, " and do_sample is true; allowed is do_sample: false with groups"));
  }
  if (beams % groups != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_beam_groups is ", groups, "; allowed are divisors of num_beams, which is ", beams));
  }
  if (merged.diversity_penalty() > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("diversity_penalty is ", merged.diversity_penalty(),
                                                 "; allowed is above 0 where num_beam_groups is ", groups,
                                                 ": the groups would all be the same"));
}

absl::Status StopsWithoutBeams(const v1::DecodingParameters& merged, const ModelLimits&) {
  const auto& stops = merged.stop_strings();
  if (stops.empty() || stops[0].empty() || !merged.has_num_beams() || merged.num_beams() == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("stop_strings is a list of ", stops.size(), " and num_beams is ",
                                                 merged.num_beams(),
                                                 "; allowed is num_beams 1 with it (this version does "
                                                 "not honour stop strings of beams)"));
}

// What is forced and suppressed leaves nothing (GenerationConfig.validate).
absl::Status ForcedTokensMayCome(const v1::DecodingParameters& merged, const ModelLimits&) {
  const auto& suppressed = merged.suppress_tokens();
  const auto is_suppressed = [&suppressed](int32_t token) {
    return std::find(suppressed.begin(), suppressed.end(), token) != suppressed.end();
  };
  const auto refuse = [](const char* forced) {
    return absl::InvalidArgumentError(
        absl::StrCat("suppress_tokens has every token of ", forced, "; allowed is to suppress not all of them"));
  };
  const auto& ends = merged.forced_eos_token_id();
  if (merged.forced_bos_token_id() >= 0 && merged.has_forced_bos_token_id() &&
      is_suppressed(merged.forced_bos_token_id())) {
    return refuse("forced_bos_token_id");
  }
  const bool forces_end = !ends.empty() && ends[0] >= 0;
  return forces_end && std::all_of(ends.begin(), ends.end(), is_suppressed) ? refuse("forced_eos_token_id")
                                                                            : absl::OkStatus();
}

absl::Status DecayHasAnEos(const v1::DecodingParameters& merged, const ModelLimits&) {
  if (!merged.has_exponential_decay_length_penalty() || merged.exponential_decay_length_penalty().factor() == 1) {
    return absl::OkStatus();
  }
  if (!merged.eos_token_id().empty() && merged.eos_token_id(0) >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("exponential_decay_length_penalty.factor is ",
                                                 merged.exponential_decay_length_penalty().factor(),
                                                 " and no eos_token_id is set; allowed is 1 without one"));
}

absl::Status AtMostItsBeams(const v1::DecodingParameters& merged, const ModelLimits&) {
  if (merged.do_sample()) return absl::OkStatus();  // each is drawn
  const int beams = merged.has_num_beams() ? merged.num_beams() : 1;
  if (!merged.has_num_return_sequences() || merged.num_return_sequences() <= beams) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("num_return_sequences is ", merged.num_return_sequences(),
                                                 "; allowed is 1 to num_beams, which is ", beams,
                                                 ", or do_sample: true"));
}

constexpr absl::Status (*kRulesAcross[])(const v1::DecodingParameters&, const ModelLimits&) = {
    SamplesWithoutBeams, GroupsOfBeams, StopsWithoutBeams, ForcedTokensMayCome, DecayHasAnEos, AtMostItsBeams,
};

}  // namespace

std::span<const Rule> ParameterRules() { return kRules; }

std::span<const Rule> FieldRules(const google::protobuf::Descriptor& type) {
  if (&type == v1::TokenList::descriptor()) return kTokenListRules;
  if (&type == v1::SequenceBias::descriptor()) return kSequenceBiasRules;
  if (&type == v1::ExponentialDecay::descriptor()) return kExponentialDecayRules;
  return {};
}

const Rule* FindRule(std::string_view name) {
  const auto* rule =
      std::find_if(std::begin(kRules), std::end(kRules), [name](const Rule& known) { return known.name == name; });
  return rule == std::end(kRules) ? nullptr : rule;
}

const FieldDescriptor* FieldOf(const Rule& rule) {
  return v1::DecodingParameters::descriptor()->FindFieldByName(std::string(rule.name));
}

bool IsSet(const v1::DecodingParameters& layer, const FieldDescriptor* field) {
  const Reflection* reflection = layer.GetReflection();
  if (field->is_repeated()) return reflection->FieldSize(layer, field) > 0;
  if (!reflection->HasField(layer, field)) return false;
  return field->cpp_type() != FieldDescriptor::CPPTYPE_ENUM || reflection->GetEnumValue(layer, field) != 0;
}

bool IsReset(const v1::DecodingParameters& layer, const Rule& rule) {
  return std::find(layer.reset().begin(), layer.reset().end(), rule.name) != layer.reset().end();
}

std::string EnumName(const EnumValueDescriptor& value) {
  return absl::AsciiStrToLower(value.name().substr(value.name().rfind('_') + 1));
}

std::string EnumNames(const EnumDescriptor& type) {
  std::string names;
  for (int i = 1; i < type.value_count(); ++i) {  // 0 is UNSPECIFIED
    absl::StrAppend(&names, i > 1 ? ", " : "", EnumName(*type.value(i)));
  }
  return names;
}

absl::Status CheckTogether(const v1::DecodingParameters& merged, const ModelLimits& limits) {
  for (const auto rule : kRulesAcross) {
    if (const absl::Status status = rule(merged, limits); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace elserve
