// The models that are loaded, by name.
#ifndef ELSERVE_SERVER_REQUESTS_MODEL_REGISTRY_H_
#define ELSERVE_SERVER_REQUESTS_MODEL_REGISTRY_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/requests/running_model.h"
#include "server/requests/served_model.h"

namespace elserve {

// Constant: any thread may use it. It owns the models: their loops end with it.
class ModelRegistry {
 public:
  // At least one model; names are unique.
  explicit ModelRegistry(std::vector<RunningModel> models) : models_(std::move(models)) {}

  // NOT_FOUND lists the models there are. An empty name is the only model, INVALID_ARGUMENT if there are several.
  absl::StatusOr<std::shared_ptr<const ServedModel>> Find(std::string_view name) const;
  // In the order of the configuration.
  const std::vector<RunningModel>& models() const { return models_; }

 private:
  const std::vector<RunningModel> models_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_MODEL_REGISTRY_H_
