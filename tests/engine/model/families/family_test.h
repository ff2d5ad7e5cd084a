// What the tests of all families do: write a checkpoint, spoil it, load it.
#ifndef ELSERVE_TESTS_ENGINE_MODEL_FAMILIES_FAMILY_TEST_H_
#define ELSERVE_TESTS_ENGINE_MODEL_FAMILIES_FAMILY_TEST_H_

#include <algorithm>
#include <cstddef>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/model/families/family.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/model/checkpoint/written_checkpoint.h"

namespace elserve {

class FamilyTest : public testing::Test {
 protected:
  struct Model {
    ModelConfig config;
    ModelWeights weights;
  };
  // A key of config.json, its JSON, and what the error says behind the file's name.
  struct BadConfig {
    std::string key, value, part;
  };

  FamilyTest(nlohmann::json config, std::vector<WrittenTensor> tensors)
      : config_(std::move(config)), tensors_(std::move(tensors)) {}

  // With both sides' max_tokens as the positions allow, or 5 where they have no end.
  absl::StatusOr<Model> Load() {
    directory_.Write("config.json", config_.dump());
    directory_.Write("model.safetensors", SafetensorsFileBytes(tensors_));
    auto checkpoint = Checkpoint::Open(directory_.path());
    if (!checkpoint.ok()) return checkpoint.status();
    checkpoint_ = *std::move(checkpoint);
    absl::StatusOr<ModelConfig> config = ReadModelConfig(*checkpoint_);
    if (!config.ok()) return config.status();
    for (StackConfig* stack : {&config->encoder, &config->decoder}) {
      stack->max_tokens = config->usual_tokens > 0 ? 5 : stack->max_positions;
    }
    absl::StatusOr<ModelWeights> weights = FindModelWeights(*checkpoint_, *config);
    if (!weights.ok()) return weights.status();
    return Model{*std::move(config), *std::move(weights)};
  }
  std::string LoadError() {
    const auto model = Load();
    return model.ok() ? "no error" : std::string(model.status().message());
  }

  WrittenTensor& Find(std::string_view name) {
    return *std::find_if(tensors_.begin(), tensors_.end(), [name](const auto& tensor) { return tensor.name == name; });
  }
  void Remove(std::string_view name) {
    std::erase_if(tensors_, [name](const WrittenTensor& tensor) { return tensor.name == name; });
  }
  // The name of the tensor that a view shows: DataOf gives each its own first value.
  std::string NameOf(const HostTensor& view) const {
    return tensors_[static_cast<size_t>(*reinterpret_cast<const float*>(view.data))].name;
  }
  int64_t Numbers() const {
    int64_t numbers = 0;
    for (const WrittenTensor& tensor : tensors_) numbers += tensor.size();
    return numbers;
  }

  // Each over the good config.
  void ExpectConfigErrors(const std::vector<BadConfig>& cases) {
    const nlohmann::json good = config_;
    for (const BadConfig& c : cases) {
      config_ = good;
      config_[c.key] = nlohmann::json::parse(c.value);
      EXPECT_THAT(LoadError(), testing::HasSubstr(directory_.path() + "/config.json: " + c.part));
    }
    config_ = good;
  }

  // Missing, misshapen and of another type, each of the checkpoint's tensors once.
  void ExpectEveryTensorIsNeeded(const std::set<std::string>& may_be_missing = {}) {
    const std::vector<WrittenTensor> good = tensors_;
    for (size_t i = 0; i < good.size(); ++i) {
      SCOPED_TRACE(good[i].name);
      const std::string tensor = directory_.path() + "/model.safetensors: tensor \"" + good[i].name + "\" ";
      tensors_ = good;
      Remove(good[i].name);
      EXPECT_THAT(LoadError(),
                  testing::HasSubstr(may_be_missing.contains(good[i].name) ? "no error"
                                                                           : tensor + "is missing; expected shape ["));
      tensors_ = good;
      tensors_[i].shape.back() += 1;
      EXPECT_THAT(LoadError(), testing::HasSubstr(tensor + "has shape ["));
      tensors_ = good;
      tensors_[i].dtype = "I64";
      EXPECT_THAT(LoadError(), testing::HasSubstr(tensor + "has dtype \"I64\"; expected F32, F16 or BF16"));
    }
    tensors_ = good;
  }

  TestDirectory directory_;
  nlohmann::json config_;
  std::vector<WrittenTensor> tensors_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

// The tiny BART as one of the families that came from it.
inline nlohmann::json BartAs(const std::string& model_type) {
  nlohmann::json config = TinyBartConfig();
  config["model_type"] = model_type;
  return config;
}
struct BartParts {
  bool embedding_norm, final_norm;
  int64_t position_rows;  // 0: none stored
};
inline std::vector<WrittenTensor> BartTensorsWith(const BartParts& parts) {
  std::vector<WrittenTensor> tensors = TinyBartTensors();
  std::erase_if(tensors, [&parts](const WrittenTensor& tensor) {
    return (!parts.embedding_norm && tensor.name.find("layernorm_embedding") != std::string::npos) ||
           tensor.name.find("embed_positions") != std::string::npos;
  });
  for (const std::string side : {"model.encoder", "model.decoder"}) {
    if (parts.final_norm) AddModule(&tensors, side + ".layer_norm", {6});
    if (parts.position_rows > 0) tensors.push_back({side + ".embed_positions.weight", {parts.position_rows, 6}});
  }
  return tensors;
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_MODEL_FAMILIES_FAMILY_TEST_H_
