// A Hugging Face model directory as it is: config.json, and model.safetensors or model.safetensors.index.json with its
// shards, mapped into memory. Nothing in it is trusted: sizes are bounded before memory is taken, and every error names
// the file, the key or the tensor, what it holds and what was expected.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_CHECKPOINT_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/model/checkpoint/config_file.h"
#include "engine/model/checkpoint/safetensors.h"

namespace elserve {

class Checkpoint {
 public:
  // Reads config.json and every shard's header; tensors are mapped, not read. Where both a single file and an index are
  // there, the single file is taken, as transformers does.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(std::string_view directory);

  const ConfigFile& config() const { return config_; }

  bool Has(std::string_view name) const;
  // A float32, float16 or bfloat16 tensor of exactly this shape. The bytes are aligned to their type and live as long
  // as the checkpoint. NOT_FOUND if it is missing; INVALID_ARGUMENT for another type or shape.
  absl::StatusOr<HostTensor> Tensor(std::string_view name, std::span<const int64_t> expected_shape) const;

 private:
  // Where a tensor is.
  struct Source {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
  };

  Checkpoint(std::string directory, ConfigFile config) : directory_(std::move(directory)), config_(std::move(config)) {}
  absl::Status OpenWeights();
  absl::Status OpenFile(const std::string& path);
  absl::Status OpenShards(const std::string& index_path);

  std::string directory_;
  ConfigFile config_;
  std::string weights_path_;  // the single file, or the index
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Source, std::less<>> tensors_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_CHECKPOINT_H_
