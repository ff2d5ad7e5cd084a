#include "engine/model/checkpoint/config_file.h"

#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/decoding.h"
#include "engine/model/checkpoint/bounded_json.h"
#include "engine/model/checkpoint/mapped_file.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

// Whether `value` is a whole number in [min, max]; it goes to `out` then. Booleans and 2.0 are no whole numbers.
bool WholeNumber(const nlohmann::json& value, int64_t min, int64_t max, int64_t* out) {
  if (!value.is_number_integer()) return false;
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (value.is_number_unsigned() && value.get<uint64_t>() > kMost) return false;
  *out = value.get<int64_t>();
  return *out >= min && *out <= max;
}

}  // namespace

absl::StatusOr<ConfigFile> ConfigFile::Read(const std::string& path) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  const auto bytes = file->bytes();
  if (bytes.size() > kMaxConfigBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", bytes.size(), " bytes; expected at most ", kMaxConfigBytes));
  }
  absl::StatusOr<nlohmann::json> values =
      ParseJsonObject(path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  if (!values.ok()) return values.status();
  return ConfigFile(path, *std::move(values));
}

const nlohmann::json* ConfigFile::Find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &*found;
}

bool ConfigFile::Has(std::string_view key) const {
  const nlohmann::json* value = Find(key);
  return value != nullptr && !value->is_null();
}

absl::Status ConfigFile::Error(std::string_view key, std::string_view expected) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(path_, ": ", Printable(key), " is missing; expected ", std::string(expected)));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path_, ": ", Printable(key), " is ", ValueText(*value), "; expected ", std::string(expected)));
}

absl::StatusOr<int64_t> ConfigFile::Integer(std::string_view key, int64_t absent, int64_t min, int64_t max) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return absent;
  int64_t number = 0;
  if (WholeNumber(*value, min, max, &number)) return number;
  return Error(key, absl::StrCat("a whole number from ", min, " to ", max));
}

absl::StatusOr<double> ConfigFile::Number(std::string_view key, double absent, double min, double max) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return absent;
  if (value->is_number() && value->get<double>() >= min && value->get<double>() <= max) return value->get<double>();
  return Error(key, absl::StrCat("a number from ", min, " to ", max));
}

absl::StatusOr<bool> ConfigFile::Boolean(std::string_view key, bool absent) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return absent;
  if (value->is_boolean()) return value->get<bool>();
  return Error(key, "true or false");
}

absl::StatusOr<std::string> ConfigFile::String(std::string_view key, std::optional<std::string_view> absent) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr && absent.has_value()) return std::string(*absent);
  if (value != nullptr && value->is_string()) return value->get<std::string>();
  return Error(key, "a string");
}

absl::StatusOr<std::vector<std::string>> ConfigFile::Strings(std::string_view key) const {
  std::vector<std::string> strings;
  if (!Has(key)) return strings;
  const nlohmann::json& value = *Find(key);
  if (!value.is_array()) return Error(key, "null or a list of strings");
  for (const nlohmann::json& element : value) {
    if (!element.is_string()) return Error(key, "null or a list of strings");
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

absl::StatusOr<int32_t> ConfigFile::TokenId(std::string_view key, int32_t absent, int64_t vocab_size) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return absent < vocab_size ? absent : -1;
  if (value->is_null()) return -1;
  int64_t id = 0;
  if (WholeNumber(*value, 0, vocab_size - 1, &id)) return static_cast<int32_t>(id);
  return Error(key, absl::StrCat("null or a token id from 0 to ", vocab_size - 1));
}

absl::StatusOr<std::vector<int32_t>> ConfigFile::TokenIds(std::string_view key, std::vector<int32_t> absent,
                                                          int64_t vocab_size) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) {
    std::erase_if(absent, [vocab_size](int32_t id) { return id >= vocab_size; });
    return absent;
  }
  std::vector<int32_t> ids;
  if (value->is_null()) return ids;
  const std::string expected =
      absl::StrCat("null, a token id from 0 to ", vocab_size - 1, " or a list of at most ", kMaxEosIds, " of them");
  int64_t id = 0;
  if (WholeNumber(*value, 0, vocab_size - 1, &id)) return std::vector<int32_t>{static_cast<int32_t>(id)};
  if (!value->is_array() || value->size() > static_cast<size_t>(kMaxEosIds)) return Error(key, expected);
  for (const nlohmann::json& element : *value) {
    if (!WholeNumber(element, 0, vocab_size - 1, &id)) return Error(key, expected);
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

}  // namespace elserve
