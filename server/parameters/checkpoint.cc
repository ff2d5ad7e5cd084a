#include "server/parameters/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/parameters/bounded_file.h"
#include "server/parameters/other_keys.h"
#include "server/parameters/parameters.h"
#include "server/parameters/rules.h"
#include "server/parameters/shown.h"

namespace elserve {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr uintmax_t kMaxFileBytes = 4 << 20;
constexpr size_t kMaxPrefixBytes = 4096;  // as the configuration's

absl::StatusOr<json> ReadObject(const fs::path& path) {
  const absl::StatusOr<std::string> text = ReadBoundedFile(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  try {
    json value = json::parse(*text);
    if (value.is_object()) return value;
  } catch (const json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " is no JSON: ", e.what()));
  }
  return absl::InvalidArgumentError(absl::StrCat(path.string(), " is no JSON object"));
}

absl::Status TakeKey(std::string_view name, const json& value, v1::DecodingParameters* parameters) {
  v1::DecodingParameters one;
  if (absl::Status status = SetParameter(name, value, &one); !status.ok()) return status;
  if (absl::Status status = ValidateParameters(one, nullptr); !status.ok()) return status;
  parameters->MergeFrom(one);  // a key comes once in an object
  return absl::OkStatus();
}

// transformers' fallbacks on bos_token_id.
absl::Status TakeBosTokenId(const json& object, bool is_model_config, v1::DecodingParameters* parameters) {
  const auto bos = object.find("bos_token_id");
  if (bos == object.end() || bos->is_null()) return absl::OkStatus();
  if (!parameters->has_decoder_start_token_id()) {
    if (absl::Status status = TakeKey("decoder_start_token_id", *bos, parameters); !status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("bos_token_id, which decoding starts from: ", std::string(status.message())));
    }
  }
  // The old name of forced_bos_token_id in BART's configurations (GenerationConfig.__init__).
  const auto forced = object.find("force_bos_token_to_be_generated");
  if (is_model_config && forced != object.end() && *forced == true) {
    return TakeKey("forced_bos_token_id", *bos, parameters);
  }
  return absl::OkStatus();
}

// Parameters that transformers has not: in a checkpoint the name means something else.
constexpr std::string_view kOwnNames[] = {"seed", "bad_words"};

bool Samples(const json& object) {
  const auto it = object.find("do_sample");
  return it != object.end() && *it == true;
}

// NOT_FOUND, of a key that nobody knows, is the file's fault as well.
absl::Status Refused(const absl::Status& status) {
  return status.ok() ? status : absl::InvalidArgumentError(std::string(status.message()));
}

// One key of an object. `all_keys`: it holds nothing but generation parameters, so that an unknown one is suspect;
// `samples`: it sets do_sample.
absl::Status TakeAny(std::string_view name, const json& value, bool all_keys, bool samples,
                     const v1::DecodingParameters& overrides, v1::DecodingParameters* parameters) {
  const bool own = std::find(std::begin(kOwnNames), std::end(kOwnNames), name) != std::end(kOwnNames);
  const Rule* rule = own ? nullptr : FindRule(name);
  if (rule == nullptr) {
    const absl::Status status = CheckOtherKey(name, value, /*checkpoint=*/true);
    // config.json holds the model's numbers too.
    return absl::IsNotFound(status) && (!all_keys || value.is_null()) ? absl::OkStatus() : Refused(status);
  }
  if (IsSet(overrides, FieldOf(*rule)) || IsReset(overrides, *rule)) {
    return absl::OkStatus();
  }
  absl::Status status = TakeKey(name, value, parameters);
  // What does not act is not looked at, as in transformers.
  if (status.ok() || (rule->support == Support::kSampling && !samples)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      std::string(status.message()), "; a value in the model's `defaults` of the configuration replaces this one"));
}

absl::Status TakeObject(const json& object, bool is_model_config, const v1::DecodingParameters& overrides,
                        v1::DecodingParameters* parameters) {
  for (const auto& [name, value] : object.items()) {
    if (value.is_null()) continue;
    absl::Status status = TakeAny(name, value, !is_model_config, Samples(object), overrides, parameters);
    if (!status.ok()) return status;
  }
  return TakeBosTokenId(object, is_model_config, parameters);
}

// `name` is what the key is called in messages.
absl::Status TakePrefix(const json& value, std::string_view name, std::string* prefix) {
  if (value.is_string() && value.get_ref<const std::string&>().size() <= kMaxPrefixBytes) {
    *prefix = value.get<std::string>();
    return absl::OkStatus();
  }
  if (value.is_null()) {
    prefix->clear();
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(std::string(name), " is ", Shown(value),
                                                 "; allowed is a text of at most ", kMaxPrefixBytes, " bytes"));
}

absl::Status TakeTask(const json& config, const std::string& task, const v1::DecodingParameters& overrides,
                      CheckpointTask* out) {
  if (const auto prefix = config.find("prefix"); prefix != config.end()) {
    if (absl::Status status = TakePrefix(*prefix, "prefix", &out->prefix); !status.ok()) return status;
  }
  const auto all = config.find("task_specific_params");
  if (all == config.end() || all->is_null()) return absl::OkStatus();
  const std::string name = absl::StrCat("task_specific_params.", task);
  const auto own = all->is_object() ? all->find(task) : all->end();
  if (all->is_object() && own == all->end()) return absl::OkStatus();
  if (!all->is_object() || !own->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(all->is_object() ? name : "task_specific_params", " is ",
                                                   Shown(all->is_object() ? *own : *all), "; allowed is an object"));
  }
  for (const auto& [key, value] : own->items()) {
    const absl::Status status =
        key == "prefix" ? TakePrefix(value, key, &out->prefix)
                        : TakeAny(key, value, /*all_keys=*/true, Samples(*own), overrides, &out->parameters);
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(name, ".", std::string(status.message())));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::DecodingParameters> LoadCheckpointParameters(std::string_view directory,
                                                                const v1::DecodingParameters& overrides) {
  fs::path path = fs::path(directory) / "generation_config.json";
  std::error_code error;
  const bool is_model_config = !fs::exists(path, error);
  if (is_model_config) path = fs::path(directory) / "config.json";
  absl::StatusOr<json> object = ReadObject(path);
  if (!object.ok()) return object.status();
  v1::DecodingParameters parameters;
  if (absl::Status status = TakeObject(*object, is_model_config, overrides, &parameters); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", std::string(status.message())));
  }
  return parameters;
}

absl::StatusOr<CheckpointTask> LoadCheckpointTask(std::string_view directory, std::string_view task,
                                                  const v1::DecodingParameters& overrides) {
  const fs::path path = fs::path(directory) / "config.json";
  const absl::StatusOr<json> config = ReadObject(path);
  if (!config.ok()) return config.status();
  CheckpointTask own;
  if (absl::Status status = TakeTask(*config, std::string(task), overrides, &own); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", std::string(status.message())));
  }
  return own;
}

}  // namespace elserve
