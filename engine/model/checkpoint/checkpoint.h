// A Hugging Face model directory as it is: config.json, and its weights as safetensors or as torch's pickles, in one
// file or in shards with an index, mapped into memory. Nothing in it is trusted: sizes are bounded before memory is
// taken, and every error names the file, the key or the tensor, what it holds and what was expected.
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
#include "engine/model/checkpoint/weights_file.h"

namespace elserve {

class Checkpoint {
 public:
  // Reads config.json and what every shard says of its tensors; they themselves are mapped, not read. The weights are
  // the first of model.safetensors, model.safetensors.index.json, pytorch_model.bin and pytorch_model.bin.index.json
  // that is there, as in transformers (modeling_utils._get_resolved_checkpoint_files). INVALID_ARGUMENT for an adapter
  // without its model, and for quantized weights.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(std::string_view directory);

  const ConfigFile& config() const { return config_; }

  bool Has(std::string_view name) const;
  // A float32, float16 or bfloat16 tensor of exactly this shape. The bytes are aligned to their type and live as long
  // as the checkpoint. NOT_FOUND if it is missing; INVALID_ARGUMENT for another type or shape.
  absl::StatusOr<HostTensor> Tensor(std::string_view name, std::span<const int64_t> expected_shape) const;

 private:
  // Where a tensor is.
  struct Source {
    const WeightsFile* file;
    const TensorEntry* entry;
  };

  Checkpoint(std::string directory, ConfigFile config) : directory_(std::move(directory)), config_(std::move(config)) {}
  absl::Status OpenWeights();
  // `read` fills a file of one format.
  absl::Status OpenFile(const std::string& path, absl::Status (*read)(WeightsFile*));
  absl::Status OpenShards(const std::string& index_path, absl::Status (*read)(WeightsFile*));

  std::string directory_;
  ConfigFile config_;
  std::string weights_path_;  // the single file, or the index
  std::vector<std::unique_ptr<WeightsFile>> files_;
  std::map<std::string, Source, std::less<>> tensors_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_CHECKPOINT_H_
