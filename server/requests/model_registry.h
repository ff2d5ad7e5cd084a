// The models that are loaded, by name.
#ifndef ELSERVE_SERVER_REQUESTS_MODEL_REGISTRY_H_
#define ELSERVE_SERVER_REQUESTS_MODEL_REGISTRY_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/requests/served_model.h"

namespace elserve {

// Constant: any thread may use it.
class ModelRegistry {
 public:
  // At least one model; names are unique.
  explicit ModelRegistry(std::vector<std::shared_ptr<ServedModel>> models) : models_(std::move(models)) {}

  // NOT_FOUND lists the models there are. An empty name is the only model, INVALID_ARGUMENT if there are several.
  absl::StatusOr<std::shared_ptr<ServedModel>> Find(std::string_view name) const;
  // In the order of the configuration.
  const std::vector<std::shared_ptr<ServedModel>>& models() const { return models_; }

 private:
  const std::vector<std::shared_ptr<ServedModel>> models_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_REQUESTS_MODEL_REGISTRY_H_
