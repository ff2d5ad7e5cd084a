// config.json, read key by key with checked types and ranges.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_CONFIG_FILE_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_CONFIG_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace elserve {

class ConfigFile {
 public:
  // At most 16 MiB and 64 levels deep, an object at the top, no key twice in one object.
  static absl::StatusOr<ConfigFile> Read(const std::string& path);

  const std::string& path() const { return path_; }

  // The key is there and not null.
  bool Has(std::string_view key) const;
  // The key's value, or `absent` where the key is not there. A null, another type, a number with a fraction or one
  // outside [min, max] is INVALID_ARGUMENT. Without `absent` the key must be there: NOT_FOUND.
  absl::StatusOr<int64_t> Integer(std::string_view key, int64_t absent, int64_t min, int64_t max) const;
  absl::StatusOr<double> Number(std::string_view key, double absent, double min, double max) const;
  absl::StatusOr<bool> Boolean(std::string_view key, bool absent) const;
  absl::StatusOr<std::string> String(std::string_view key, std::optional<std::string_view> absent) const;
  // A list of strings, or null: empty, as where the key is not there.
  absl::StatusOr<std::vector<std::string>> Strings(std::string_view key) const;
  // A token id in [0, vocab_size), or null: -1. An `absent` outside of the vocabulary is -1, too.
  absl::StatusOr<int32_t> TokenId(std::string_view key, int32_t absent, int64_t vocab_size) const;
  // A token id, a list of at most 32 of them, or null: empty. `absent` loses what is outside of the vocabulary.
  absl::StatusOr<std::vector<int32_t>> TokenIds(std::string_view key, std::vector<int32_t> absent,
                                                int64_t vocab_size) const;

  // INVALID_ARGUMENT: "<path>: <key> is <value>; expected <expected>".
  absl::Status Error(std::string_view key, std::string_view expected) const;

 private:
  ConfigFile(std::string path, nlohmann::json values) : path_(std::move(path)), values_(std::move(values)) {}
  const nlohmann::json* Find(std::string_view key) const;

  std::string path_;
  nlohmann::json values_;  // an object
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_CONFIG_FILE_H_
