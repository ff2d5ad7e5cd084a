#include "engine/model/families/config_reader.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/families/activation.h"

namespace elserve {

template <typename T>
T ConfigReader::Keep(absl::StatusOr<T> value, T otherwise) {
  if (value.ok()) return *std::move(value);
  if (status_.ok()) status_ = value.status();
  return otherwise;
}

int ConfigReader::Size(std::string_view key, int absent, int max) {
  return static_cast<int>(Keep<int64_t>(file_.Integer(key, absent, 1, max), 1));
}

int ConfigReader::Heads(std::string_view key, int absent, int width) {
  const int heads = Size(key, absent, width);
  if (status_.ok() && width % heads != 0) {
    status_ = file_.Error(key, absl::StrCat("a divisor of the model's width, ", width));
  }
  return heads;
}

float ConfigReader::Number(std::string_view key, double absent, double min, double max) {
  return static_cast<float>(Keep(file_.Number(key, absent, min, max), min));
}

std::string ConfigReader::Text(std::string_view key, std::string_view absent) {
  return Keep<std::string>(file_.String(key, absent), "");
}

std::vector<std::string> ConfigReader::Texts(std::string_view key) { return Keep(file_.Strings(key), {}); }

bool ConfigReader::Boolean(std::string_view key, bool absent) { return Keep(file_.Boolean(key, absent), false); }

Activation ConfigReader::Activation(std::string_view key, std::string_view absent) {
  return Keep(ReadActivation(file_, key, absent), elserve::Activation::kNone);
}

int32_t ConfigReader::TokenId(std::string_view key, int32_t absent, int vocab_size) {
  return Keep(file_.TokenId(key, absent, vocab_size), -1);
}

std::vector<int32_t> ConfigReader::TokenIds(std::string_view key, std::vector<int32_t> absent, int vocab_size) {
  return Keep(file_.TokenIds(key, std::move(absent), vocab_size), {});
}

void ConfigReader::MustBe(std::string_view key, bool expected) {
  if (Boolean(key, expected) != expected) Refuse(key, expected ? "true" : "false");
}

void ConfigReader::Refuse(std::string_view key, std::string_view expected) {
  if (status_.ok()) status_ = file_.Error(key, expected);
}

}  // namespace elserve
