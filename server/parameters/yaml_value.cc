#include "server/parameters/yaml_value.h"

#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace elserve {
namespace {

using nlohmann::json;

constexpr int kMaxListDepth = 4;
constexpr int kMaxValues = 65536;

// `budget`: values that may still be made. Aliases make a short file as long as they like.
std::optional<json> ToJson(const YAML::Node& node, int depth, int* budget) {
  if (--*budget < 0) return std::nullopt;
  if (node.IsNull()) return json();
  if (node.IsScalar()) {
    // The tag of plain scalars is "?", that of quoted ones "!".
    if (node.Tag() == "?") {
      json value = json::parse(node.Scalar(), nullptr, /*allow_exceptions=*/false);
      if (value.is_primitive() && !value.is_discarded() && !value.is_string()) return value;
    }
    return json(node.Scalar());
  }
  if (!node.IsSequence() || depth == kMaxListDepth) return std::nullopt;
  json list = json::array();
  for (const YAML::Node& element : node) {
    std::optional<json> value = ToJson(element, depth + 1, budget);
    if (!value) return std::nullopt;
    list.push_back(*std::move(value));
  }
  return list;
}

}  // namespace

std::optional<json> YamlToJson(const YAML::Node& node) {
  int budget = kMaxValues;
  return ToJson(node, 0, &budget);
}

}  // namespace elserve
