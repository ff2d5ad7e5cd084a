// Reads a family's keys of config.json one after the other and keeps the first error, so that a family is a list of
// keys.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_CONFIG_READER_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_CONFIG_READER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "engine/backend/backend.h"
#include "engine/model/checkpoint/config_file.h"

namespace elserve {

// Far above every model of these families, and small enough that no product of two of them overflows.
inline constexpr int kMaxVocabulary = 1 << 22;
inline constexpr int kMaxWidth = 1 << 17;
inline constexpr int kMaxLayers = 1024;
inline constexpr int kMaxPositions = 1 << 20;
inline constexpr int kMaxFeatures = 1 << 14;

// After an error the values are 1, false, -1 or empty, and mean nothing.
class ConfigReader {
 public:
  explicit ConfigReader(const ConfigFile& file) : file_(file) {}

  const absl::Status& status() const { return status_; }

  // Of a key and its alias (attribute_map of transformers' configurations) the one to read: the alias where it is
  // there.
  std::string_view Key(std::string_view alias, std::string_view name) const { return file_.Has(alias) ? alias : name; }
  // From 1 to `max`.
  int Size(std::string_view key, int absent, int max);
  // A size that divides `width`.
  int Heads(std::string_view key, int absent, int width);
  float Number(std::string_view key, double absent, double min, double max);
  std::string Text(std::string_view key, std::string_view absent);
  std::vector<std::string> Texts(std::string_view key);
  bool Boolean(std::string_view key, bool absent);
  elserve::Activation Activation(std::string_view key, std::string_view absent);
  // -1: null.
  int32_t TokenId(std::string_view key, int32_t absent, int vocab_size);
  std::vector<int32_t> TokenIds(std::string_view key, std::vector<int32_t> absent, int vocab_size);
  // An error where the key is there with another value.
  void MustBe(std::string_view key, bool expected);
  // What was read under `key` is not what it has to be.
  void Refuse(std::string_view key, std::string_view expected);

 private:
  // The value, or `otherwise` after keeping the error.
  template <typename T>
  T Keep(absl::StatusOr<T> value, T otherwise);

  const ConfigFile& file_;
  absl::Status status_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_CONFIG_READER_H_
