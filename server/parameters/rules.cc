#include "server/parameters/rules.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/parameters/parameters.h"

namespace elserve {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

constexpr double kInt32Max = std::numeric_limits<int32_t>::max();
constexpr double kNever = std::numeric_limits<double>::quiet_NaN();  // no value is neutral but "not set"

// length_penalty: new_tokens ** 10 stays a float32 for every length up to 7131.
constexpr Rule kRules[] = {
    {"max_length", Support::kHonoured, 2, kInt32Max, Bound::kLength},
    {"max_new_tokens", Support::kHonoured, 1, kInt32Max, Bound::kNewTokens},
    {"min_length", Support::kHonoured, 0, kInt32Max},
    {"min_new_tokens", Support::kHonoured, 0, kInt32Max - 1},
    {"num_beams", Support::kHonoured, 1, kMaxBeams},
    {"num_return_sequences", Support::kHonoured, 1, kMaxBeams},
    {"length_penalty", Support::kHonoured, -10, 10},
    {"early_stopping", Support::kHonoured, 1, 3},
    {"no_repeat_ngram_size", Support::kHonoured, 0, kInt32Max},
    {"forced_bos_token_id", Support::kHonoured, 0, kInt32Max, Bound::kTokenId, true},
    {"forced_eos_token_id", Support::kHonoured, 0, kInt32Max, Bound::kTokenId, true, kMaxEosIds},
    {"decoder_start_token_id", Support::kHonoured, 0, kInt32Max, Bound::kTokenId},
    {"eos_token_id", Support::kHonoured, 0, kInt32Max, Bound::kTokenId, true, kMaxEosIds},
    {"do_sample", Support::kNeutral, 0, 0},
    {"temperature", Support::kNeutralSample, 1, 1},
    {"top_k", Support::kNeutralSample, 0, 50},
    {"top_p", Support::kNeutralSample, 1, 1},
    {"min_p", Support::kNeutralSample, 0, 0},
    {"typical_p", Support::kNeutralSample, 1, 1},
    {"epsilon_cutoff", Support::kNeutralSample, 0, 0},
    {"eta_cutoff", Support::kNeutralSample, 0, 0},
    {"seed", Support::kNeutralSample, kNever, kNever},
    {"repetition_penalty", Support::kNeutral, 1, 1},
    {"encoder_repetition_penalty", Support::kNeutral, 1, 1},
    {"encoder_no_repeat_ngram_size", Support::kNeutral, 0, 0},
    {"bad_words_ids", Support::kNeutral, kNever, kNever},
    {"suppress_tokens", Support::kNeutral, kNever, kNever},
    {"begin_suppress_tokens", Support::kNeutral, kNever, kNever},
    {"renormalize_logits", Support::kNeutral, 0, 0},
    {"num_beam_groups", Support::kNeutral, 0, 1},
    {"diversity_penalty", Support::kNeutral, 0, 0},
    {"stop_strings", Support::kNeutral, kNever, kNever},
};

// A field that is set, and the bounds that hold for it.
struct Field {
  const v1::DecodingParameters& parameters;
  const FieldDescriptor* descriptor;
  const Rule& rule;
  double high;
};

std::string NumberText(double number) {
  return number == std::trunc(number) && std::abs(number) < 1e15 ? absl::StrCat(static_cast<int64_t>(number))
                                                                 : absl::StrCat(number);
}

std::string BoolText(double number) { return number != 0 ? "true" : "false"; }

// The value of a singular number, bool or enum.
double ScalarValue(const v1::DecodingParameters& parameters, const FieldDescriptor* field) {
  const Reflection* reflection = parameters.GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->GetBool(parameters, field) ? 1 : 0;
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection->GetInt32(parameters, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<double>(reflection->GetUInt64(parameters, field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->GetEnumValue(parameters, field);
    default:
      return reflection->GetDouble(parameters, field);
  }
}

std::string AllowedRange(const Field& field) {
  if (field.descriptor->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) return "false, true, never";
  std::string allowed = absl::StrCat(NumberText(field.rule.low), " to ", NumberText(field.high));
  if (field.rule.can_switch_off) {
    absl::StrAppend(&allowed, field.descriptor->is_repeated() ? ", or [-1] alone: off" : ", or -1: off");
  }
  return allowed;
}

absl::Status Refuse(const Field& field, const std::string& value, const std::string& allowed) {
  return absl::InvalidArgumentError(absl::StrCat(field.descriptor->name(), " is ", value, "; allowed is ", allowed));
}

absl::Status CheckHonoured(const Field& field) {
  const Reflection* reflection = field.parameters.GetReflection();
  if (!field.descriptor->is_repeated()) {
    const double value = ScalarValue(field.parameters, field.descriptor);
    const bool off = field.rule.can_switch_off && value == -1;
    // Written so that a NaN is refused.
    if (off || (value >= field.rule.low && value <= field.high)) return absl::OkStatus();
    return Refuse(field, NumberText(value), AllowedRange(field));
  }
  const int size = reflection->FieldSize(field.parameters, field.descriptor);
  if (size > field.rule.max_items) {
    return Refuse(field, absl::StrCat("a list of ", size, " ids"), absl::StrCat("at most ", field.rule.max_items));
  }
  for (int i = 0; i < size; ++i) {
    const int32_t value = reflection->GetRepeatedInt32(field.parameters, field.descriptor, i);
    const bool off = field.rule.can_switch_off && value == -1 && size == 1;
    if (!off && (value < field.rule.low || value > field.high)) {
      return Refuse(field, absl::StrCat(size == 1 ? "" : "a list with ", value), AllowedRange(field));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckNeutral(const Field& field) {
  constexpr char kReason[] = " (this version does not honour the parameter)";
  if (field.descriptor->is_repeated()) {
    return Refuse(field, "a list that is not empty", absl::StrCat("an empty one", kReason));
  }
  const double value = ScalarValue(field.parameters, field.descriptor);
  if (value == field.rule.low || value == field.rule.high) return absl::OkStatus();
  const bool is_bool = field.descriptor->cpp_type() == FieldDescriptor::CPPTYPE_BOOL;
  const auto text = is_bool ? BoolText : NumberText;
  std::string allowed = std::isnan(field.rule.low) ? "to leave it out" : text(field.rule.low);
  if (field.rule.high != field.rule.low && !std::isnan(field.rule.low)) {
    absl::StrAppend(&allowed, " or ", text(field.rule.high));
  }
  return Refuse(field, text(value), absl::StrCat(allowed, kReason));
}

double HighBound(const Rule& rule, const ModelLimits* limits) {
  if (limits == nullptr) return rule.high;
  switch (rule.bound) {
    case Bound::kTokenId:
      return limits->vocab_size - 1;
    case Bound::kLength:
      return limits->max_decoder_tokens;
    case Bound::kNewTokens:
      return limits->max_decoder_tokens - 1;
    default:
      return rule.high;
  }
}

bool IsSet(const v1::DecodingParameters& parameters, const FieldDescriptor* field) {
  const Reflection* reflection = parameters.GetReflection();
  if (field->is_repeated()) return reflection->FieldSize(parameters, field) > 0;
  if (!reflection->HasField(parameters, field)) return false;
  // UNSPECIFIED says "not set" where a client's language always sends a value.
  return field->cpp_type() != FieldDescriptor::CPPTYPE_ENUM || reflection->GetEnumValue(parameters, field) != 0;
}

}  // namespace

std::span<const Rule> ParameterRules() { return kRules; }

absl::Status ValidateParameters(const v1::DecodingParameters& parameters, const ModelLimits* limits) {
  const auto& unknown = parameters.GetReflection()->GetUnknownFields(parameters);
  if (!unknown.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("field number ", unknown.field(0).number(),
                     " of the decoding parameters is not known to this version, which ignores none"));
  }
  for (const Rule& rule : kRules) {
    const FieldDescriptor* descriptor = v1::DecodingParameters::descriptor()->FindFieldByName(std::string(rule.name));
    if (!IsSet(parameters, descriptor)) continue;
    const Field field{parameters, descriptor, rule, HighBound(rule, limits)};
    absl::Status status = rule.support == Support::kHonoured ? CheckHonoured(field) : CheckNeutral(field);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace elserve
