// Untrusted JSON files, read without exceptions.
#ifndef ELSERVE_SERVER_TEXT_JSON_FILE_H_
#define ELSERVE_SERVER_TEXT_JSON_FILE_H_

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace elserve {

using Json = nlohmann::json;

inline constexpr int64_t kMaxTokenizerFileBytes = 64 << 20;

// The whole file; NOT_FOUND if there is none, INVALID_ARGUMENT if it is longer than kMaxTokenizerFileBytes or no file.
absl::StatusOr<std::string> ReadTokenizerFile(const std::filesystem::path& path);

// Takes typed values out of one file's JSON. The first thing that is wrong is kept as status(), with file and key; from
// then on the values are the fallbacks, so that a caller can read many and check once.
class JsonFile {
 public:
  // A file that does not exist is as one that holds {} (exists() tells); the top of any other must be an object.
  static absl::StatusOr<JsonFile> Read(const std::filesystem::path& path);

  bool exists() const { return exists_; }
  const std::string& name() const { return name_; }
  const Json& root() const { return root_; }
  const absl::Status& status() const { return status_; }

  // "tokenizer.json: model.type is ...": key with the keys above it, then what is wrong.
  void Fail(std::string_view key, std::string_view problem);

  // The member `key` of an object; null if it is not there or null. `prefix` stands before keys in errors ("model.").
  static const Json* Find(const Json& object, std::string_view key);
  const Json* Object(const Json& object, std::string_view prefix, std::string_view key);
  const Json* Array(const Json& object, std::string_view prefix, std::string_view key);
  bool Bool(const Json& object, std::string_view prefix, std::string_view key, bool fallback);
  std::optional<std::string> String(const Json& object, std::string_view prefix, std::string_view key);

  // A token id: a whole number from 0 to kMaxTokenId.
  int32_t Id(const Json& value, std::string_view key);

 private:
  explicit JsonFile(std::string name) : name_(std::move(name)) {}

  const Json* Typed(const Json& object, std::string_view prefix, std::string_view key, Json::value_t type,
                    std::string_view expected);

  std::string name_;
  bool exists_ = false;
  Json root_ = Json::object();
  absl::Status status_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_JSON_FILE_H_
