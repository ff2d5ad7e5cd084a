// Values as JSON and YAML write them -> fields of DecodingParameters, by protobuf reflection: a new scalar or list
// field needs no line here.
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "server/parameters/other_keys.h"
#include "server/parameters/parameters.h"
#include "server/parameters/rules.h"
#include "server/parameters/shown.h"
#include "server/parameters/yaml_value.h"

namespace elserve {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::json;

absl::Status Mismatch(std::string_view name, const json& value, std::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(name), " is ", Shown(value), "; allowed is ", std::string(allowed)));
}

bool IsUtf8(const json& text) {
  try {
    static_cast<void>(text.dump());
    return true;
  } catch (const json::type_error&) {
    return false;
  }
}

// Enums are written by the short names of their values; true and false may be JSON's.
absl::Status SetEnum(std::string_view name, const json& value, const FieldDescriptor* field, Message* message) {
  std::string text = value.is_boolean() ? (value.get<bool>() ? "true" : "false") : "";
  if (value.is_string()) text = value.get<std::string>();
  const EnumDescriptor* type = field->enum_type();
  for (int i = 1; i < type->value_count(); ++i) {  // 0 is UNSPECIFIED
    if (EnumName(*type->value(i)) != text) continue;
    message->GetReflection()->SetEnum(message, field, type->value(i));
    return absl::OkStatus();
  }
  return Mismatch(name, value, EnumNames(*type));
}

absl::Status Fill(std::string_view name, const FieldDescriptor* field, const json& value, Message* message);

// One value of a singular field, or one element of a repeated one.
class Setter {
 public:
  Setter(std::string_view name, const FieldDescriptor* field, Message* message)
      : name_(name), field_(field), message_(message), reflection_(message->GetReflection()) {}

  absl::Status Set(const json& value) {
    switch (field_->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return SetInt32(value);
      case FieldDescriptor::CPPTYPE_UINT64:
        if (!value.is_number_unsigned()) return Mismatch(name_, value, "0 to 18446744073709551615");
        reflection_->SetUInt64(message_, field_, value.get<uint64_t>());
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_DOUBLE:
        if (!value.is_number()) return Mismatch(name_, value, "a number");
        reflection_->SetDouble(message_, field_, value.get<double>());
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_BOOL:
        if (!value.is_boolean()) return Mismatch(name_, value, "true or false");
        reflection_->SetBool(message_, field_, value.get<bool>());
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_ENUM:
        return SetEnum(name_, value, field_, message_);
      case FieldDescriptor::CPPTYPE_STRING:
        if (!value.is_string() || !IsUtf8(value)) return Mismatch(name_, value, "a text in UTF-8, or a list of such");
        reflection_->AddString(message_, field_, value.get<std::string>());
        return absl::OkStatus();
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return SetMessage(value);
      default:
        return absl::InternalError(absl::StrCat(name_, " has a type that parameters/ cannot fill"));
    }
  }

 private:
  absl::Status SetInt32(const json& value) {
    const bool fits = value.is_number_integer() &&
                      (value.is_number_unsigned() ? value.get<uint64_t>() <= std::numeric_limits<int32_t>::max()
                                                  : value.get<int64_t>() >= std::numeric_limits<int32_t>::min());
    if (!fits) {
      return Mismatch(name_, value,
                      field_->is_repeated() ? "an integer of 32 bits, or a list of them" : "an integer of 32 bits");
    }
    const auto number = value.get<int32_t>();
    if (field_->is_repeated()) {
      reflection_->AddInt32(message_, field_, number);
    } else {
      reflection_->SetInt32(message_, field_, number);
    }
    return absl::OkStatus();
  }

  // A message is written as the list of its fields, in their order; one of a single list, as that list.
  absl::Status SetMessage(const json& value) {
    Message* message = field_->is_repeated() ? reflection_->AddMessage(message_, field_)
                                             : reflection_->MutableMessage(message_, field_);
    const google::protobuf::Descriptor& type = *message->GetDescriptor();
    if (type.field_count() == 1) return Fill(name_, type.field(0), value, message);
    if (!value.is_array() || value.size() != static_cast<size_t>(type.field_count())) {
      std::string fields;
      for (int i = 0; i < type.field_count(); ++i) absl::StrAppend(&fields, i > 0 ? ", " : "", type.field(i)->name());
      return Mismatch(name_, value, absl::StrCat(field_->is_repeated() ? "a list of [" : "[", fields, "]"));
    }
    for (int i = 0; i < type.field_count(); ++i) {
      const absl::Status status =
          Fill(absl::StrCat(name_, ".", type.field(i)->name()), type.field(i), value[i], message);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  std::string name_;
  const FieldDescriptor* field_;
  Message* message_;
  const Reflection* reflection_;
};

// A field from one value, or from a list of them.
absl::Status Fill(std::string_view name, const FieldDescriptor* field, const json& value, Message* message) {
  Setter setter(name, field, message);
  if (!field->is_repeated() || !value.is_array()) return setter.Set(value);
  for (const json& element : value) {
    if (absl::Status status = setter.Set(element); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SetParameter(std::string_view name, const json& value, v1::DecodingParameters* parameters) {
  const Rule* rule = FindRule(name);
  if (rule == nullptr) {
    const absl::Status other = CheckOtherKey(name, value, /*checkpoint=*/false);
    if (!absl::IsNotFound(other)) return other;
    return absl::InvalidArgumentError(absl::StrCat(
        Shown(std::string(name)), " is no decoding parameter; they are named as in transformers' GenerationConfig"));
  }
  const FieldDescriptor* field = FieldOf(*rule);
  v1::DecodingParameters filled;
  // A list without entries is one as well: it replaces the list below, and the message cannot tell it from none.
  if (value.is_null() || (field->is_repeated() && value.is_array() && value.empty())) {
    filled.add_reset(std::string(rule->name));
  } else if (absl::Status status = Fill(name, field, value, &filled); !status.ok()) {
    return status;
  }
  parameters->GetReflection()->ClearField(parameters, field);
  auto* reset = parameters->mutable_reset();
  reset->erase(std::remove(reset->begin(), reset->end(), rule->name), reset->end());
  parameters->MergeFrom(filled);
  return absl::OkStatus();
}

absl::Status SetParameterFromText(std::string_view assignment, v1::DecodingParameters* parameters) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == assignment.size()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", Shown(std::string(assignment)),
                                                   "\" is no parameter; allowed is NAME=VALUE, e.g. num_beams=4"));
  }
  const std::string text(assignment.substr(equals + 1));
  std::optional<json> value;
  try {
    value = YamlToJson(YAML::Load(text));
  } catch (const YAML::Exception&) {  // no YAML: no value
  }
  if (value) return SetParameter(assignment.substr(0, equals), *value, parameters);
  return absl::InvalidArgumentError(
      absl::StrCat(Shown(std::string(assignment.substr(0, equals))), " is ", Shown(text),
                   "; allowed is what YAML writes as a number, a text, true, false, null or a list"));
}

}  // namespace elserve
