#include "engine/model/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/bounded_json.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

constexpr char kSingleFile[] = "/model.safetensors";
constexpr char kIndexFile[] = "/model.safetensors.index.json";
constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr size_t kMaxShards = 1024;

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// Whether `name` names a file in the index's own directory.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos && name.find('\0') == name.npos;
}

// The index's weight_map: which file each tensor is in.
absl::StatusOr<std::map<std::string, std::string>> ReadWeightMap(const std::string& path) {
  absl::StatusOr<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status();
  if (file->bytes().size() > kMaxIndexBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", file->bytes().size(), " bytes; expected at most ", kMaxIndexBytes));
  }
  absl::StatusOr<nlohmann::json> index = ParseJsonObject(
      path, std::string_view(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()));
  if (!index.ok()) return index.status();
  const auto weight_map = index->find("weight_map");
  if (weight_map == index->end() || !weight_map->is_object() || weight_map->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map is ",
                                                   weight_map == index->end() ? "missing" : ValueText(*weight_map),
                                                   "; expected an object {tensor: file}"));
  }
  std::map<std::string, std::string> shards;
  for (const auto& [name, shard] : weight_map->items()) {
    if (!shard.is_string() || !IsPlainFileName(shard.get_ref<const std::string&>())) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": weight_map names ", ValueText(shard), " for tensor ",
                                                     Quoted(name), "; expected a file name without a directory"));
    }
    shards.emplace(name, shard.get<std::string>());
  }
  return shards;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(std::string_view directory) {
  const std::string path(directory);
  absl::StatusOr<ConfigFile> config = ConfigFile::Read(path + "/config.json");
  if (!config.ok()) return config.status();
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint(path, *std::move(config)));
  if (absl::Status status = checkpoint->OpenWeights(); !status.ok()) return status;
  return checkpoint;
}

absl::Status Checkpoint::OpenWeights() {
  const std::string single = directory_ + kSingleFile;
  const std::string index = directory_ + kIndexFile;
  if (Exists(single)) {
    weights_path_ = single;
    return OpenFile(single);
  }
  if (!Exists(index)) {
    return absl::NotFoundError(
        absl::StrCat(directory_, ": has neither model.safetensors nor model.safetensors.index.json",
                     Exists(directory_ + "/pytorch_model.bin") ? "; pytorch_model.bin is not read" : ""));
  }
  weights_path_ = index;
  return OpenShards(index);
}

absl::Status Checkpoint::OpenFile(const std::string& path) {
  absl::StatusOr<std::unique_ptr<SafetensorsFile>> file = SafetensorsFile::Open(path);
  if (!file.ok()) return file.status();
  for (const auto& [name, entry] : (*file)->tensors()) {
    const auto [place, added] = tensors_.emplace(name, Source{file->get(), &entry});
    if (!added) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", Quoted(name), " is in ",
                                                     place->second.file->path(), " as well; expected once"));
    }
  }
  files_.push_back(*std::move(file));
  return absl::OkStatus();
}

absl::Status Checkpoint::OpenShards(const std::string& index_path) {
  absl::StatusOr<std::map<std::string, std::string>> shards = ReadWeightMap(index_path);
  if (!shards.ok()) return shards.status();
  std::set<std::string> names;
  for (const auto& [tensor, shard] : *shards) names.insert(shard);
  if (names.size() > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_path, ": weight_map names ", names.size(), " files; expected at most ", kMaxShards));
  }
  for (const std::string& name : names) {
    absl::Status status = OpenFile(directory_ + "/" + name);
    if (absl::IsNotFound(status)) {
      return absl::NotFoundError(absl::StrCat(index_path, ": weight_map names ", Quoted(name),
                                              ", which is missing: ", std::string(status.message())));
    }
    if (!status.ok()) return status;
  }
  for (const auto& [tensor, shard] : *shards) {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end() || found->second.file->path() != directory_ + "/" + shard) {
      return absl::InvalidArgumentError(absl::StrCat(index_path, ": weight_map says that tensor ", Quoted(tensor),
                                                     " is in ", Quoted(shard), "; expected it there, but it is not"));
    }
  }
  return absl::OkStatus();
}

bool Checkpoint::Has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

absl::StatusOr<HostTensor> Checkpoint::Tensor(std::string_view name, std::span<const int64_t> expected_shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(weights_path_, ": tensor ", Quoted(name), " is missing; expected shape ",
                                            ShapeText(expected_shape)));
  }
  const SafetensorsEntry& entry = *found->second.entry;
  const std::string tensor = absl::StrCat(found->second.file->path(), ": tensor ", Quoted(name));
  HostTensor host;
  if (entry.dtype == "F32") {
    host.type = DataType::kFloat32;
  } else if (entry.dtype == "F16") {
    host.type = DataType::kFloat16;
  } else if (entry.dtype == "BF16") {
    host.type = DataType::kBFloat16;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(tensor, " has dtype ", Quoted(entry.dtype), "; expected F32, F16 or BF16"));
  }
  if (!std::equal(entry.shape.begin(), entry.shape.end(), expected_shape.begin(), expected_shape.end())) {
    return absl::InvalidArgumentError(
        absl::StrCat(tensor, " has shape ", ShapeText(entry.shape), "; expected ", ShapeText(expected_shape)));
  }
  host.shape = entry.shape;
  host.data = entry.data;
  return host;
}

}  // namespace elserve
