#include "engine/model/checkpoint/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/bounded_json.h"
#include "engine/model/checkpoint/pytorch_bin.h"
#include "engine/model/checkpoint/quoted.h"
#include "engine/model/checkpoint/safetensors.h"

namespace elserve {
namespace {

// The names of weights, in the order in which they are looked for.
struct WeightsName {
  std::string_view name;
  bool is_index;
  absl::Status (*read)(WeightsFile*);
};
constexpr WeightsName kWeightsNames[] = {{"model.safetensors", false, ReadSafetensors},
                                         {"model.safetensors.index.json", true, ReadSafetensors},
                                         {"pytorch_model.bin", false, ReadPytorchBin},
                                         {"pytorch_model.bin.index.json", true, ReadPytorchBin}};
constexpr std::string_view kAdapterFile = "adapter_config.json";
constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/";
constexpr size_t kMaxIndexBytes = 100'000'000;
constexpr size_t kMaxShards = 1024;

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::string Path(const std::string& directory, std::string_view name) {
  return absl::StrCat(directory, "/", std::string(name));
}

// The first of the weights that the directory has; null: none.
const WeightsName* FindWeights(const std::string& directory) {
  for (const WeightsName& weights : kWeightsNames) {
    if (Exists(Path(directory, weights.name))) return &weights;
  }
  return nullptr;
}

absl::Status NoWeights(const std::string& directory) {
  if (Exists(Path(directory, kAdapterFile))) {
    return absl::InvalidArgumentError(
        absl::StrCat(directory, ": has ", std::string(kAdapterFile),
                     " and no weights of a model: it is an adapter, which is not read ",
                     "alone; merge it into its model (PEFT: merge_and_unload, then save_pretrained) and serve that"));
  }
  std::string names;
  for (const WeightsName& weights : kWeightsNames) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(weights.name));
  }
  return absl::NotFoundError(absl::StrCat(directory, ": has no weights; expected one of ", names));
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
  // An adapter has no config.json either.
  if (FindWeights(path) == nullptr && Exists(Path(path, kAdapterFile))) return NoWeights(path);
  absl::StatusOr<ConfigFile> config = ConfigFile::Read(Path(path, "config.json"));
  if (!config.ok()) return config.status();
  if (config->Has("quantization_config")) {
    return config->Error("quantization_config",
                         "none: quantized weights are not read; take the model's float32, float16 or bfloat16 weights");
  }
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint(path, *std::move(config)));
  if (absl::Status status = checkpoint->OpenWeights(); !status.ok()) return status;
  return checkpoint;
}

absl::Status Checkpoint::OpenWeights() {
  const WeightsName* weights = FindWeights(directory_);
  if (weights == nullptr) return NoWeights(directory_);
  weights_path_ = Path(directory_, weights->name);
  return weights->is_index ? OpenShards(weights_path_, weights->read) : OpenFile(weights_path_, weights->read);
}

absl::Status Checkpoint::OpenFile(const std::string& path, absl::Status (*read)(WeightsFile*)) {
  absl::StatusOr<MappedFile> mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  auto file = std::make_unique<WeightsFile>(*std::move(mapped));
  const std::span<const std::byte> bytes = file->bytes();
  if (std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()).starts_with(kLfsPointer)) {
    return file->Error("is a pointer of Git LFS, not the weights; expected them (git lfs pull)");
  }
  if (absl::Status status = read(file.get()); !status.ok()) return status;
  for (const auto& [name, entry] : file->tensors()) {
    const auto [place, added] = tensors_.emplace(name, Source{file.get(), &entry});
    if (!added) {
      return file->Error(
          absl::StrCat("tensor ", Quoted(name), " is in ", place->second.file->path(), " as well; expected once"));
    }
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status Checkpoint::OpenShards(const std::string& index_path, absl::Status (*read)(WeightsFile*)) {
  absl::StatusOr<std::map<std::string, std::string>> shards = ReadWeightMap(index_path);
  if (!shards.ok()) return shards.status();
  std::set<std::string> names;
  for (const auto& [tensor, shard] : *shards) names.insert(shard);
  if (names.size() > kMaxShards) {
    return absl::InvalidArgumentError(
        absl::StrCat(index_path, ": weight_map names ", names.size(), " files; expected at most ", kMaxShards));
  }
  for (const std::string& name : names) {
    absl::Status status = OpenFile(Path(directory_, name), read);
    if (absl::IsNotFound(status)) {
      return absl::NotFoundError(absl::StrCat(index_path, ": weight_map names ", Quoted(name),
                                              ", which is missing: ", std::string(status.message())));
    }
    if (!status.ok()) return status;
  }
  for (const auto& [tensor, shard] : *shards) {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end() || found->second.file->path() != Path(directory_, shard)) {
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
  const TensorEntry& entry = *found->second.entry;
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
