// Reads the keys of a YAML map one by one, each with its type and range, and says where in the file something is wrong.
#ifndef ELSERVE_SERVER_CONFIG_YAML_MAP_H_
#define ELSERVE_SERVER_CONFIG_YAML_MAP_H_

#include <yaml-cpp/node/node.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace elserve {

// Keeps the first error of a file.
class YamlErrors {
 public:
  explicit YamlErrors(std::string_view file) : file_(file) {}

  void Add(const YAML::Mark& mark, const std::string& message);
  const absl::Status& first() const { return first_; }

 private:
  std::string file_;
  absl::Status first_;
};

// A node and what it is called in messages: "models[0].memory".
struct YamlValue {
  YAML::Node node;
  std::string name;
};

// Adds "NAME is VALUE; allowed is ALLOWED".
void RefuseYaml(const YamlValue& value, std::string_view allowed, YamlErrors* errors);

// Bytes from 4096, 16MiB (B, KiB, MiB, GiB, TiB; whole numbers).
std::optional<int64_t> ParseBytes(std::string_view text);

template <typename Enum>
using EnumNames = std::initializer_list<std::pair<std::string_view, Enum>>;

// A map whose keys are taken one after the other. A key that is not there leaves *out as it is, and a bad value adds an
// error. Finish() refuses the keys that were not taken.
class YamlMap {
 public:
  // Adds an error if the value is no map, or has a key twice.
  YamlMap(const YamlValue& value, YamlErrors* errors);

  std::optional<YamlValue> Take(std::string_view key);
  // A scalar as it is written; null is the empty text. At most 4096 bytes, without control characters.
  std::optional<YamlValue> Text(std::string_view key, std::string* out);
  void Integer(std::string_view key, int64_t low, int64_t high, int64_t* out);
  void Integer(std::string_view key, int low, int high, int* out);
  std::optional<YamlValue> Number(std::string_view key, double low, double high, double* out);
  void Bytes(std::string_view key, int64_t low, int64_t high, int64_t* out);
  // `refused`: values that are named in the message as not there yet.
  template <typename Enum>
  void Choice(std::string_view key, EnumNames<Enum> names, std::string_view refused, Enum* out) {
    const std::optional<YamlValue> value = Take(key);
    if (!value) return;
    std::string allowed;
    for (const auto& [name, choice] : names) {
      if (value->node.IsScalar() && value->node.Scalar() == name) {
        *out = choice;
        return;
      }
      allowed += (allowed.empty() ? "" : ", ") + std::string(name);
    }
    RefuseYaml(*value, allowed + std::string(refused), errors_);
  }

  void Finish();

  const YamlValue& value() const { return value_; }
  const std::vector<std::pair<std::string, YAML::Node>>& keys() const { return keys_; }
  YAML::Mark KeyMark(std::string_view key) const;

 private:
  std::string NameOf(const std::string& key) const;

  YamlValue value_;
  YamlErrors* errors_;
  std::vector<std::pair<std::string, YAML::Node>> keys_;  // in the file's order
  std::vector<YAML::Mark> marks_;                         // of the keys
  std::vector<std::string> known_;                        // every key that was asked for
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_CONFIG_YAML_MAP_H_
