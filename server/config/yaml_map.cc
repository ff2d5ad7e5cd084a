#include "server/config/yaml_map.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/parameters/shown.h"
#include "server/parameters/yaml_value.h"

namespace elserve {
namespace {

using nlohmann::json;

constexpr size_t kMaxTextBytes = 4096;

std::string ShownNode(const YAML::Node& node) {
  if (node.IsMap()) return "a map";
  if (node.IsSequence()) return "a list";
  return !node.IsScalar() || node.Scalar().empty() ? "empty" : Shown(node.Scalar());
}

}  // namespace

void YamlErrors::Add(const YAML::Mark& mark, const std::string& message) {
  if (!first_.ok()) return;
  first_ = absl::InvalidArgumentError(mark.is_null() ? absl::StrCat(file_, ": ", message)
                                                     : absl::StrCat(file_, ":", mark.line + 1, ": ", message));
}

void RefuseYaml(const YamlValue& value, std::string_view allowed, YamlErrors* errors) {
  errors->Add(value.node.Mark(),
              absl::StrCat(value.name, " is ", ShownNode(value.node), "; allowed is ", std::string(allowed)));
}

std::optional<int64_t> ParseBytes(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int64_t factor = 1;
  if (unit.empty()) return number;
  for (std::string_view known : kUnits) {
    if (unit == known) {
      if (number > std::numeric_limits<int64_t>::max() / factor) return std::nullopt;
      return number * factor;
    }
    factor *= 1024;
  }
  return std::nullopt;
}

YamlMap::YamlMap(const YamlValue& value, YamlErrors* errors) : value_(value), errors_(errors) {
  if (!value.node.IsMap()) {
    RefuseYaml(value, "a map of keys", errors);
    return;
  }
  for (const auto& entry : value.node) {
    if (!entry.first.IsScalar()) {
      errors->Add(entry.first.Mark(), absl::StrCat(value.name, " has a key that is no text"));
      return;
    }
    const std::string& key = entry.first.Scalar();
    const bool twice =
        std::any_of(keys_.begin(), keys_.end(), [&key](const auto& other) { return other.first == key; });
    if (twice) errors->Add(entry.first.Mark(), absl::StrCat(NameOf(key), " is there twice; allowed is once"));
    keys_.emplace_back(key, entry.second);
    marks_.push_back(entry.first.Mark());
  }
}

std::string YamlMap::NameOf(const std::string& key) const {
  return value_.name.empty() ? key : absl::StrCat(value_.name, ".", key);
}

std::optional<YamlValue> YamlMap::Take(std::string_view key) {
  known_.emplace_back(key);
  for (const auto& [name, node] : keys_) {
    if (name == key) return YamlValue{node, NameOf(name)};
  }
  return std::nullopt;
}

std::optional<YamlValue> YamlMap::Text(std::string_view key, std::string* out) {
  std::optional<YamlValue> value = Take(key);
  if (!value) return std::nullopt;
  if (value->node.IsNull()) {
    out->clear();
    return value;
  }
  const bool good = value->node.IsScalar() && value->node.Scalar().size() <= kMaxTextBytes &&
                    std::none_of(value->node.Scalar().begin(), value->node.Scalar().end(),
                                 [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t'; });
  if (!good) {
    RefuseYaml(*value, absl::StrCat("a text of at most ", kMaxTextBytes, " bytes without control characters"), errors_);
    return std::nullopt;
  }
  *out = value->node.Scalar();
  return value;
}

void YamlMap::Integer(std::string_view key, int64_t low, int64_t high, int64_t* out) {
  const std::optional<YamlValue> value = Take(key);
  if (!value) return;
  const std::optional<json> number = YamlToJson(value->node);
  const bool integer = number && number->is_number_integer() &&
                       !(number->is_number_unsigned() &&
                         number->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  if (!integer || number->get<int64_t>() < low || number->get<int64_t>() > high) {
    RefuseYaml(*value, absl::StrCat(low, " to ", high), errors_);
    return;
  }
  *out = number->get<int64_t>();
}

void YamlMap::Integer(std::string_view key, int low, int high, int* out) {
  int64_t wide = *out;
  Integer(key, int64_t{low}, int64_t{high}, &wide);
  *out = static_cast<int>(wide);
}

std::optional<YamlValue> YamlMap::Number(std::string_view key, double low, double high, double* out) {
  std::optional<YamlValue> value = Take(key);
  if (!value) return std::nullopt;
  const std::optional<json> number = YamlToJson(value->node);
  if (!number || !number->is_number() || !(number->get<double>() >= low && number->get<double>() <= high)) {
    RefuseYaml(*value, absl::StrCat(low, " to ", high), errors_);
    return std::nullopt;
  }
  *out = number->get<double>();
  return value;
}

void YamlMap::Bytes(std::string_view key, int64_t low, int64_t high, int64_t* out) {
  const std::optional<YamlValue> value = Take(key);
  if (!value) return;
  const std::optional<int64_t> bytes =
      value->node.IsScalar() ? ParseBytes(value->node.Scalar()) : std::optional<int64_t>();
  if (!bytes || *bytes < low || *bytes > high) {
    RefuseYaml(*value, absl::StrCat(low, " to ", high, " bytes, written as 4096, 512KiB, 16MiB or 2GiB"), errors_);
    return;
  }
  *out = *bytes;
}

void YamlMap::Finish() {
  for (const auto& [key, node] : keys_) {
    if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
    errors_->Add(KeyMark(key), absl::StrCat(value_.name.empty() ? "the file" : value_.name, " has the key ", key,
                                            "; allowed is ", absl::StrJoin(known_, ", ")));
    return;
  }
}

YAML::Mark YamlMap::KeyMark(std::string_view key) const {
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i].first == key) return marks_[i];
  }
  return YAML::Mark::null_mark();
}

}  // namespace elserve
