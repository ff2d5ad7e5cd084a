// From EngineOptions to a model on its device, with its memory planned and taken.
#ifndef ELSERVE_ENGINE_LOADING_H_
#define ELSERVE_ENGINE_LOADING_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/engine.h"
#include "engine/model/model_config.h"
#include "engine/model/packed_weights.h"

namespace elserve {

struct LoadedModel {
  ModelInfo info;
  std::unique_ptr<Backend> backend;  // outlives the weights
  std::unique_ptr<ModelConfig> config;
  std::unique_ptr<PackedModel> weights;
  StepLimits limits;
  ThreadPool* pool = nullptr;  // EngineOptions::pool
};

// Errors name the file, the tensor, the key or the option and what was expected.
absl::StatusOr<LoadedModel> LoadModel(EngineOptions options);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_LOADING_H_
