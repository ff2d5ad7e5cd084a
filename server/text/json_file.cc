#include "server/text/json_file.h"

#include <fstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/text/vocabulary.h"

namespace elserve {

absl::StatusOr<std::string> ReadTokenizerFile(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return absl::NotFoundError(absl::StrFormat("%s does not exist", path.string()));
  }
  if (!std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is not a file that can be read", path.string()));
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxTokenizerFileBytes) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has %d bytes: a tokenizer's file may have at most %d", name,
                                                      error ? 0 : size, kMaxTokenizerFileBytes));
  }
  std::string text(size, '\0');
  std::ifstream stream(path, std::ios::binary);
  stream.read(text.data(), static_cast<std::streamsize>(size));
  if (!stream) return absl::InvalidArgumentError(absl::StrFormat("%s cannot be read", path.string()));
  return text;
}

absl::StatusOr<JsonFile> JsonFile::Read(const std::filesystem::path& path) {
  JsonFile file(path.filename().string());
  absl::StatusOr<std::string> text = ReadTokenizerFile(path);
  if (absl::IsNotFound(text.status())) return file;
  if (!text.ok()) return text.status();
  file.exists_ = true;
  try {
    file.root_ = Json::parse(*text);
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is not JSON: %s", file.name_, error.what()));
  }
  if (!file.root_.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s must hold an object, and holds: %s", file.name_, file.root_.type_name()));
  }
  return file;
}

void JsonFile::Fail(std::string_view key, std::string_view problem) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(absl::StrFormat("%s: %s %s", name_, key, problem));
}

const Json* JsonFile::Find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(std::string(key));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const Json* JsonFile::Typed(const Json& object, std::string_view prefix, std::string_view key, Json::value_t type,
                            std::string_view expected) {
  const Json* const value = Find(object, key);
  if (value == nullptr || value->type() == type) return value;
  Fail(absl::StrFormat("%s%s", prefix, key), absl::StrFormat("must be %s, and is: %s", expected, value->type_name()));
  return nullptr;
}

const Json* JsonFile::Object(const Json& object, std::string_view prefix, std::string_view key) {
  return Typed(object, prefix, key, Json::value_t::object, "an object");
}

const Json* JsonFile::Array(const Json& object, std::string_view prefix, std::string_view key) {
  return Typed(object, prefix, key, Json::value_t::array, "an array");
}

bool JsonFile::Bool(const Json& object, std::string_view prefix, std::string_view key, bool fallback) {
  const Json* const value = Typed(object, prefix, key, Json::value_t::boolean, "true or false");
  return value == nullptr ? fallback : value->get<bool>();
}

std::optional<std::string> JsonFile::String(const Json& object, std::string_view prefix, std::string_view key) {
  const Json* const value = Typed(object, prefix, key, Json::value_t::string, "a string");
  if (value == nullptr) return std::nullopt;
  return value->get<std::string>();
}

int32_t JsonFile::Id(const Json& value, std::string_view key) {
  if (value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(kMaxTokenId)) {
    return static_cast<int32_t>(value.get<uint64_t>());
  }
  // Only numbers are quoted: anything else could be of any length.
  Fail(key, absl::StrFormat("must be a token id from 0 to %d, and is: %s", kMaxTokenId,
                            value.is_number() ? value.dump() : value.type_name()));
  return 0;
}

}  // namespace elserve
