#include "server/config/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/config/address.h"
#include "server/config/checkpoint_path.h"
#include "server/config/question_format_keys.h"
#include "server/config/yaml_map.h"
#include "server/parameters/bounded_file.h"
#include "server/parameters/parameters.h"
#include "server/parameters/yaml_value.h"

namespace elserve {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxModels = 64;
constexpr size_t kMaxNameBytes = 128;
constexpr int64_t kMaxBytes = int64_t{1} << 50;

void ReadServer(const YamlValue& value, ServerConfig* config, YamlErrors* errors) {
  constexpr char kAllowed[] = "HOST:PORT, e.g. 127.0.0.1:8500 or [::1]:8500; port 0 is any free one";
  YamlMap map(value, errors);
  if (const auto listen = map.Text("listen", &config->listen); listen && !ParseAddress(config->listen)) {
    RefuseYaml(*listen, kAllowed, errors);
  }
  const auto ops = map.Text("ops_listen", &config->ops_listen);
  if (ops && !config->ops_listen.empty()) {
    if (!ParseAddress(config->ops_listen)) {
      RefuseYaml(*ops, absl::StrCat(kAllowed, ", or \"\": off"), errors);
    } else if (config->ops_listen == config->listen && !config->listen.ends_with(":0")) {
      RefuseYaml(*ops, "another address than server.listen's", errors);
    }
  }
  int64_t max_message_bytes = config->max_message_bytes;
  map.Bytes("max_message_bytes", 1 << 10, 1 << 30, &max_message_bytes);
  config->max_message_bytes = static_cast<int>(max_message_bytes);
  map.Number("drain_seconds", 0, 86400, &config->drain_seconds);
  map.Integer("threads", 0, 1024, &config->threads);
  map.Finish();
}

void ReadDefaults(const YamlValue& value, v1::DecodingParameters* defaults, YamlErrors* errors) {
  YamlMap map(value, errors);
  for (const auto& [name, node] : map.keys()) {
    const std::optional<nlohmann::json> json = YamlToJson(node);
    if (!json) {
      RefuseYaml({node, absl::StrCat(value.name, ".", name)}, "a number, a text, true, false, null or a list", errors);
      return;
    }
    // Checked alone, so that an error has the line of its own key.
    v1::DecodingParameters one;
    absl::Status status = SetParameter(name, *json, &one);
    if (status.ok()) status = ValidateParameters(one, nullptr);
    if (!status.ok()) {
      errors->Add(map.KeyMark(name), absl::StrCat(value.name, ".", std::string(status.message())));
      return;
    }
    defaults->MergeFrom(one);
  }
}

// 2GiB, 1073741824 or 0.5.
void ReadMemory(const YamlValue& value, ServedModelConfig* model, YamlErrors* errors) {
  constexpr int64_t kMinBytes = 1 << 20;
  const std::optional<nlohmann::json> json = YamlToJson(value.node);
  if (json && json->is_number_float()) {
    const double fraction = json->get<double>();
    if (fraction > 0 && fraction <= 1) {
      model->memory_bytes = 0;
      model->memory_fraction = fraction;
      return;
    }
  } else if (value.node.IsScalar()) {
    const std::optional<int64_t> bytes = ParseBytes(value.node.Scalar());
    if (bytes && *bytes >= kMinBytes && *bytes <= kMaxBytes) {
      model->memory_bytes = *bytes;
      return;
    }
  }
  RefuseYaml(
      value,
      "bytes from 1MiB on (e.g. 2GiB), or a fraction of the free memory with a decimal point, above 0 and up to 1.0",
      errors);
}

void ReadTasks(const YamlValue& value, ServedModelConfig* model, YamlErrors* errors) {
  YamlMap map(value, errors);
  model->summarize.reset();
  if (const auto summarize = map.Take("summarize")) {
    model->summarize.emplace();
    YamlMap keys(*summarize, errors);
    if (std::string prefix; keys.Text("prefix", &prefix)) model->summarize->prefix = std::move(prefix);
    if (std::string suffix; keys.Text("suffix", &suffix)) model->summarize->suffix = std::move(suffix);
    if (const auto defaults = keys.Take("defaults")) ReadDefaults(*defaults, &model->summarize->defaults, errors);
    keys.Finish();
  }
  if (const auto questions = map.Take("questions")) {
    QuestionsTask& task = model->questions.emplace();
    YamlMap keys(*questions, errors);
    ReadQuestionFormat(&keys, &task.format, errors);
    if (const auto defaults = keys.Take("defaults")) ReadDefaults(*defaults, &task.defaults, errors);
    keys.Finish();
  }
  map.Finish();
}

void ReadChunk(const YamlValue& value, int max_source_tokens, ChunkDefaults* chunk, YamlErrors* errors) {
  constexpr int kMaxWindow = 1 << 20;
  YamlMap map(value, errors);
  map.Integer("window_tokens", 0, max_source_tokens > 0 ? max_source_tokens : kMaxWindow, &chunk->window_tokens);
  const int most = (chunk->window_tokens > 0 ? chunk->window_tokens : kMaxWindow) / 2;
  chunk->overlap_tokens = std::min(chunk->overlap_tokens, most);
  map.Integer("overlap_tokens", 0, most, &chunk->overlap_tokens);
  map.Choice<v1::Join>("join", {{"concatenate", v1::JOIN_CONCATENATE}, {"resummarize", v1::JOIN_RESUMMARIZE}}, "",
                       &chunk->join);
  map.Integer("max_rounds", 1, kMaxChunkRounds, &chunk->max_rounds);
  map.Bytes("max_document_bytes", 1 << 10, 1 << 26, &chunk->max_document_bytes);
  map.Finish();
}

// Layers or heads; how many there are is known when the model is loaded.
void ReadNumbers(YamlMap* map, std::string_view key, std::vector<int>* numbers, YamlErrors* errors) {
  constexpr int64_t kMost = 1024;
  const auto value = map->Take(key);
  if (!value) return;
  const std::optional<nlohmann::json> list = YamlToJson(value->node);
  const auto fits = [](const nlohmann::json& item) { return item.is_number_integer() && item >= 1 && item <= kMost; };
  if (!list || !list->is_array() || list->empty() || list->size() > kMost ||
      !std::all_of(list->begin(), list->end(), fits)) {
    return RefuseYaml(*value, absl::StrCat("a list of 1 or more numbers from 1 to ", kMost), errors);
  }
  *numbers = list->get<std::vector<int>>();
}

void ReadSalience(const YamlValue& value, SalientHeads* salience, YamlErrors* errors) {
  YamlMap map(value, errors);
  ReadNumbers(&map, "layers", &salience->layers, errors);
  ReadNumbers(&map, "heads", &salience->heads, errors);
  map.Finish();
}

void ReadNameAndPath(const fs::path& folder, YamlMap* map, ServedModelConfig* model, YamlErrors* errors) {
  constexpr std::string_view kNameBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  const auto name = map->Text("name", &model->name);
  if (!name) {
    errors->Add(map->value().node.Mark(), absl::StrCat(map->value().name, ".name is missing"));
  } else if (model->name.empty() || model->name.size() > kMaxNameBytes ||
             model->name.find_first_not_of(kNameBytes) != std::string::npos) {
    RefuseYaml(*name, absl::StrCat("1 to ", kMaxNameBytes, " of A-Z a-z 0-9 . _ -"), errors);
  }
  const auto path = map->Text("path", &model->path);
  if (!path) {
    errors->Add(map->value().node.Mark(), absl::StrCat(map->value().name, ".path is missing"));
    return;
  }
  absl::StatusOr<std::string> found = FindCheckpoint(model->path, folder);
  if (!found.ok()) return RefuseYaml(*path, std::string(found.status().message()), errors);
  model->path = *std::move(found);
}

// auto, cpu, cuda or cuda:N. Whether this build and this machine have it is asked when the model is loaded.
void ReadDevice(YamlMap* map, ServedModelConfig* model, YamlErrors* errors) {
  constexpr int kMaxDevices = 64;
  std::string text;
  const auto value = map->Text("device", &text);
  if (!value || text == "auto") return;
  if (text == "cpu") {
    model->device = DeviceKind::kCpu;
    return;
  }
  model->device = DeviceKind::kCuda;
  if (text == "cuda") return;
  std::string_view number = text;
  const bool numbered = number.substr(0, 5) == "cuda:";
  if (numbered) number.remove_prefix(5);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), model->device_index);
  if (!numbered || error != std::errc() || end != number.data() + number.size() || model->device_index < 0 ||
      model->device_index >= kMaxDevices) {
    RefuseYaml(*value, absl::StrCat("auto, cpu, cuda or cuda:N with N from 0 to ", kMaxDevices - 1), errors);
  }
}

void ReadApproximation(YamlMap* map, ServedModelConfig* model, YamlErrors* errors) {
  AttentionApproximation& attention = model->approximation;
  map->Integer("attention_top_k", 1, 1 << 20, &attention.top_k);
  map->Choice<AttentionValues>("attention_values",
                               {{"exact", AttentionValues::kExact},
                                {"pruned", AttentionValues::kPruned},
                                {"log3bit", AttentionValues::kLog3Bit}},
                               "", &attention.values);
  if (attention.loses_weight()) attention.threshold = kDefaultAttentionThreshold;
  double threshold = attention.threshold;
  if (const auto given = map->Number("attention_threshold", 0, 1, &threshold); given && !attention.loses_weight()) {
    RefuseYaml(*given, "none beside attention_values: exact", errors);
  }
  attention.threshold = static_cast<float>(threshold);
  map->Integer("ffn_top_k", 1, 1 << 20, &model->ffn_top_k);
}

void ReadInt8(const YamlValue& value, ServedModelConfig* model, YamlErrors* errors) {
  constexpr char kAllowed[] = "a list of head, first_layer, last_layer";
  if (model->precision != Precision::kInt8) RefuseYaml(value, "none without precision: int8", errors);
  YamlMap map(value, errors);
  if (const auto keep = map.Take("keep")) {
    if (!keep->node.IsSequence()) RefuseYaml(*keep, kAllowed, errors);
    for (const YAML::Node& node : keep->node) {
      const std::string name = node.IsScalar() ? node.Scalar() : "";
      if (name == "head") {
        model->int8_keep.head = true;
      } else if (name == "first_layer") {
        model->int8_keep.first_layer = true;
      } else if (name == "last_layer") {
        model->int8_keep.last_layer = true;
      } else {
        RefuseYaml({node, keep->name}, kAllowed, errors);
      }
    }
  }
  map.Finish();
}

ServedModelConfig ReadModel(const YamlValue& value, const fs::path& folder, YamlErrors* errors) {
  ServedModelConfig model;
  YamlMap map(value, errors);
  ReadNameAndPath(folder, &map, &model, errors);
  ReadDevice(&map, &model, errors);
  map.Choice<Precision>("precision",
                        {{"auto", Precision::kAuto},
                         {"float32", Precision::kFloat32},
                         {"bfloat16", Precision::kBFloat16},
                         {"int8", Precision::kInt8}},
                        "", &model.precision);
  if (const auto int8 = map.Take("int8")) ReadInt8(*int8, &model, errors);
  map.Choice<bool>("memory_precision", {{"auto", false}, {"int8", true}}, "", &model.int8_memory);
  map.Choice<std::optional<AttentionForms>>("attention", {{"auto", std::nullopt}, {"el", kAllEl}, {"kv", kAllKv}}, "",
                                            &model.attention);
  ReadApproximation(&map, &model, errors);
  if (const auto memory = map.Take("memory")) ReadMemory(*memory, &model, errors);
  map.Integer("max_source_tokens", 1, 1 << 20, &model.max_source_tokens);
  map.Integer("max_decoder_tokens", 2, 1 << 20, &model.max_decoder_tokens);
  map.Integer("max_rows", 1, 16384, &model.max_rows);
  map.Integer("encoder_memory_tokens", 64, int64_t{1} << 31, &model.encoder_memory_tokens);
  map.Integer("decoder_memory_tokens", 16, int64_t{1} << 31, &model.decoder_memory_tokens);
  map.Integer("encode_tokens_per_step", 1, 1 << 20, &model.encode_tokens_per_step);
  map.Choice<bool>("encoder_cache", {{"true", true}, {"false", false}}, "", &model.encoder_cache);
  if (const auto salience = map.Take("salience")) ReadSalience(*salience, &model.salience, errors);
  map.Choice<bool>("single_flight", {{"true", true}, {"false", false}}, "", &model.single_flight);
  map.Bytes("answer_cache", 0, kMaxBytes, &model.answer_cache_bytes);
  map.Integer("max_queued_requests", 1, 1000000, &model.max_queued_requests);
  map.Integer("max_overtakes", 0, 1000000, &model.max_overtakes);
  map.Text("source_language", &model.source_language);
  map.Text("target_language", &model.target_language);
  if (const auto defaults = map.Take("defaults")) ReadDefaults(*defaults, &model.defaults, errors);
  if (const auto tasks = map.Take("tasks")) ReadTasks(*tasks, &model, errors);
  if (const auto chunk = map.Take("chunk")) ReadChunk(*chunk, model.max_source_tokens, &model.chunk, errors);
  map.Finish();
  return model;
}

void ReadModels(const YamlValue& value, const fs::path& folder, ServerConfig* config, YamlErrors* errors) {
  if (!value.node.IsSequence() || value.node.size() == 0 || value.node.size() > kMaxModels) {
    RefuseYaml(value, absl::StrCat("a list of 1 to ", kMaxModels, " models"), errors);
    return;
  }
  for (const YAML::Node& node : value.node) {
    ServedModelConfig model = ReadModel({node, absl::StrCat("models[", config->models.size(), "]")}, folder, errors);
    const bool twice = std::any_of(config->models.begin(), config->models.end(),
                                   [&model](const ServedModelConfig& other) { return other.name == model.name; });
    if (twice) {
      errors->Add(node.Mark(), absl::StrCat("models[", config->models.size(), "].name is ", model.name,
                                            "; allowed is a name that no model above has"));
    }
    config->models.push_back(std::move(model));
  }
}

void ReadLogging(const YamlValue& value, LoggingConfig* logging, YamlErrors* errors) {
  YamlMap map(value, errors);
  map.Choice<LogLevel>("level",
                       {{"debug", LogLevel::kDebug},
                        {"info", LogLevel::kInfo},
                        {"warning", LogLevel::kWarning},
                        {"error", LogLevel::kError}},
                       "", &logging->level);
  map.Choice<LogFormat>("format", {{"text", LogFormat::kText}, {"json", LogFormat::kJson}}, "", &logging->format);
  map.Finish();
}

void ReadFile(const YAML::Node& root, const fs::path& folder, ServerConfig* config, YamlErrors* errors) {
  YamlMap map({root, ""}, errors);
  if (const auto server = map.Take("server")) ReadServer({server->node, "server"}, config, errors);
  if (const auto models = map.Take("models")) {
    ReadModels({models->node, "models"}, folder, config, errors);
  } else {
    errors->Add(root.Mark(), "models is missing; allowed is a list of at least one model");
  }
  if (const auto logging = map.Take("logging")) ReadLogging({logging->node, "logging"}, &config->logging, errors);
  map.Finish();
}

}  // namespace

absl::StatusOr<ServerConfig> ParseServerConfig(std::string_view yaml, std::string_view path) {
  YamlErrors errors(path);
  ServerConfig config;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(yaml));
    if (documents.size() != 1) {
      errors.Add(YAML::Mark::null_mark(),
                 absl::StrCat("the file holds ", documents.size(), " YAML documents; allowed is 1"));
    } else {
      ReadFile(documents[0], fs::path(path).parent_path(), &config, &errors);
    }
  } catch (const YAML::Exception& e) {
    errors.Add(e.mark, absl::StrCat("no YAML: ", e.msg));
  } catch (const std::exception& e) {
    errors.Add(YAML::Mark::null_mark(), e.what());
  }
  if (!errors.first().ok()) return errors.first();
  return config;
}

absl::StatusOr<ServerConfig> LoadServerConfig(std::string_view path) {
  const absl::StatusOr<std::string> text = ReadBoundedFile(fs::path(path), kMaxFileBytes);
  if (!text.ok()) return text.status();
  return ParseServerConfig(*text, path);
}

}  // namespace elserve
