// Values against their rows of the table, for every type of field.
#include <cmath>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/parameters/rules.h"
#include "server/parameters/shown.h"

namespace elserve {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// A field that is set, and the bounds that hold for it.
struct Field {
  std::string name;  // "num_beams", "sequence_bias[2].ids"
  const Rule& rule;
  const FieldDescriptor* descriptor;
  Range range;  // the model's bound taken in
};

// A value, or an element of a list: what its range is about, and how a message shows it.
struct Element {
  double number;
  std::string text;
};

std::string NumberText(double number) {
  return number == std::trunc(number) && std::abs(number) < 1e15 ? absl::StrCat(static_cast<int64_t>(number))
                                                                 : absl::StrCat(number);
}

// As YAML and JSON write it.
std::string TextOf(const FieldDescriptor* field, double number) {
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) return number != 0 ? "true" : "false";
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    const auto* known = field->enum_type()->FindValueByNumber(static_cast<int>(number));
    if (known != nullptr) return EnumName(*known);
  }
  return NumberText(number);
}

// `i`: of a list.
Element ElementAt(const Message& message, const FieldDescriptor* field, int i) {
  const Reflection* reflection = message.GetReflection();
  const bool list = field->is_repeated();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL: {
      const bool value = list ? reflection->GetRepeatedBool(message, field, i) : reflection->GetBool(message, field);
      return {value ? 1.0 : 0.0, TextOf(field, value)};
    }
    case FieldDescriptor::CPPTYPE_INT32: {
      const int value = list ? reflection->GetRepeatedInt32(message, field, i) : reflection->GetInt32(message, field);
      return {static_cast<double>(value), TextOf(field, value)};
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      const uint64_t value =
          list ? reflection->GetRepeatedUInt64(message, field, i) : reflection->GetUInt64(message, field);
      return {static_cast<double>(value), absl::StrCat(value)};
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int value =
          list ? reflection->GetRepeatedEnumValue(message, field, i) : reflection->GetEnumValue(message, field);
      return {static_cast<double>(value), TextOf(field, value)};
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string value =
          list ? reflection->GetRepeatedString(message, field, i) : reflection->GetString(message, field);
      return {static_cast<double>(value.size()), absl::StrCat("a text of ", value.size(), " bytes")};
    }
    default: {
      const double value =
          list ? reflection->GetRepeatedDouble(message, field, i) : reflection->GetDouble(message, field);
      return {value, TextOf(field, value)};
    }
  }
}

bool Holds(const Field& field, double number) {
  if (field.descriptor->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) return true;
  if (field.descriptor->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    return number != 0 && field.descriptor->enum_type()->FindValueByNumber(static_cast<int>(number)) != nullptr;
  }
  // Written so that a NaN does not hold.
  const Range& range = field.range;
  return (range.above_low ? number > range.low : number >= range.low) &&
         (range.below_high ? number < range.high : number <= range.high);
}

std::string RangeText(const Range& range) {
  const std::string low = absl::StrCat(range.above_low ? "above " : "", NumberText(range.low));
  if (std::isinf(range.high)) return absl::StrCat(low, range.above_low ? "" : " or more");
  return absl::StrCat(low, " to ", range.below_high ? "below " : "", NumberText(range.high));
}

std::string Allowed(const Field& field) {
  switch (field.descriptor->cpp_type()) {
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumNames(*field.descriptor->enum_type());
    case FieldDescriptor::CPPTYPE_STRING:
      return absl::StrCat("texts of ", RangeText(field.range), " bytes",
                          field.rule.can_switch_off ? ", or an empty one alone: off" : "");
    default:
      break;
  }
  std::string allowed = RangeText(field.range);
  if (field.rule.can_switch_off) {
    absl::StrAppend(&allowed, field.descriptor->is_repeated() ? ", or [-1] alone: off" : ", or -1: off");
  }
  return allowed;
}

absl::Status Refuse(const Field& field, const std::string& value, const std::string& allowed) {
  return absl::InvalidArgumentError(absl::StrCat(field.name, " is ", value, "; allowed is ", allowed));
}

// `alone`: it is no element among others.
absl::Status CheckElement(const Field& field, const Element& element, bool alone) {
  const double none = field.descriptor->cpp_type() == FieldDescriptor::CPPTYPE_STRING ? 0 : -1;
  const bool off = field.rule.can_switch_off && element.number == none && alone;
  if (off || Holds(field, element.number)) return absl::OkStatus();
  return Refuse(field, absl::StrCat(alone ? "" : "a list with ", element.text), Allowed(field));
}

// A list that is no message's. `least`: the fewest entries.
absl::Status CheckList(const Field& field, const Message& message, int least) {
  const int size = message.GetReflection()->FieldSize(message, field.descriptor);
  if (size < least || size > field.rule.max_items) {
    return Refuse(field, absl::StrCat("a list of ", size),
                  absl::StrCat(least > 0 ? absl::StrCat(least, " to ") : "at most ", field.rule.max_items));
  }
  for (int i = 0; i < size; ++i) {
    const absl::Status status = CheckElement(field, ElementAt(message, field.descriptor, i), /*alone=*/size == 1);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

Range RangeFor(const Rule& rule, const ModelLimits* limits) {
  Range range = rule.range;
  if (limits == nullptr) return range;
  switch (rule.bound) {
    case Bound::kTokenId:
      range.high = limits->vocab_size - 1;
      break;
    case Bound::kLength:
      range.high = limits->max_decoder_tokens;
      break;
    case Bound::kNewTokens:
      range.high = limits->max_decoder_tokens - 1;
      break;
    case Bound::kFixed:
      break;
  }
  return range;
}

// A message among the parameters, by the rows of its fields.
absl::Status CheckMessage(const std::string& name, const Message& message, const ModelLimits* limits) {
  for (const Rule& rule : FieldRules(*message.GetDescriptor())) {
    const Field field{.name = absl::StrCat(name, ".", std::string(rule.name)),
                      .rule = rule,
                      .descriptor = message.GetDescriptor()->FindFieldByName(std::string(rule.name)),
                      .range = RangeFor(rule, limits)};
    const absl::Status status = field.descriptor->is_repeated()
                                    ? CheckList(field, message, /*least=*/1)
                                    : CheckElement(field, ElementAt(message, field.descriptor, 0), /*alone=*/true);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Whether the message says "off": -1 alone in its first field.
bool IsOff(const Message& message) {
  const FieldDescriptor* first = message.GetDescriptor()->field(0);
  return message.GetReflection()->FieldSize(message, first) == 1 && ElementAt(message, first, 0).number == -1;
}

absl::Status CheckMessages(const Field& field, const Message& parameters, const ModelLimits* limits) {
  const Reflection* reflection = parameters.GetReflection();
  if (!field.descriptor->is_repeated()) {
    return CheckMessage(field.name, reflection->GetMessage(parameters, field.descriptor), limits);
  }
  const int size = reflection->FieldSize(parameters, field.descriptor);
  if (size > field.rule.max_items) {
    return Refuse(field, absl::StrCat("a list of ", size), absl::StrCat("at most ", field.rule.max_items));
  }
  for (int i = 0; i < size; ++i) {
    const Message& message = reflection->GetRepeatedMessage(parameters, field.descriptor, i);
    if (field.rule.can_switch_off && size == 1 && IsOff(message)) return absl::OkStatus();
    const absl::Status status = CheckMessage(absl::StrCat(field.name, "[", i, "]"), message, limits);
    if (status.ok()) continue;
    return field.rule.can_switch_off
               ? absl::InvalidArgumentError(absl::StrCat(std::string(status.message()), "; -1 alone: off"))
               : status;
  }
  return absl::OkStatus();
}

absl::Status CheckField(const Field& field, const Message& parameters, const ModelLimits* limits) {
  if (field.descriptor->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) return CheckMessages(field, parameters, limits);
  if (field.descriptor->is_repeated()) return CheckList(field, parameters, /*least=*/0);
  return CheckElement(field, ElementAt(parameters, field.descriptor, 0), /*alone=*/true);
}

absl::Status CheckReset(const v1::DecodingParameters& parameters) {
  const size_t parameters_known = ParameterRules().size();
  if (static_cast<size_t>(parameters.reset_size()) > parameters_known) {
    return absl::InvalidArgumentError(
        absl::StrCat("reset is a list of ", parameters.reset_size(), "; allowed is at most ", parameters_known));
  }
  for (const std::string& name : parameters.reset()) {
    if (FindRule(name) != nullptr) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("reset names \"", Shown(name), "\"; allowed are the names of decoding parameters"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckParameter(const Rule& rule, const v1::DecodingParameters& parameters, const ModelLimits* limits) {
  const Field field{
      .name = std::string(rule.name), .rule = rule, .descriptor = FieldOf(rule), .range = RangeFor(rule, limits)};
  if (!IsSet(parameters, field.descriptor)) return absl::OkStatus();
  return CheckField(field, parameters, limits);
}

absl::Status CheckSampling(const v1::DecodingParameters& layer, const v1::DecodingParameters& merged) {
  if (merged.do_sample()) return absl::OkStatus();
  for (const Rule& rule : ParameterRules()) {
    const FieldDescriptor* descriptor = FieldOf(rule);
    if (rule.support != Support::kSampling || !IsSet(layer, descriptor)) continue;
    const Element element = ElementAt(layer, descriptor, 0);
    if (element.number == rule.idle[0] || element.number == rule.idle[1]) continue;
    std::string idle;
    if (!std::isnan(rule.idle[0])) {
      idle = TextOf(descriptor, rule.idle[0]);
      if (rule.idle[1] != rule.idle[0]) absl::StrAppend(&idle, " or ", TextOf(descriptor, rule.idle[1]));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        descriptor->name(), " is ", element.text, " and do_sample is not true; allowed is do_sample: true with it, or ",
        idle.empty() ? "to leave it out" : idle));
  }
  return absl::OkStatus();
}

absl::Status ValidateParameters(const v1::DecodingParameters& parameters, const ModelLimits* limits) {
  if (const absl::Status status = CheckReset(parameters); !status.ok()) return status;
  for (const Rule& rule : ParameterRules()) {
    if (const absl::Status status = CheckParameter(rule, parameters, limits); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace elserve
