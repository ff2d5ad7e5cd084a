#include "server/requests/model_registry.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace elserve {

absl::StatusOr<std::shared_ptr<const ServedModel>> ModelRegistry::Find(std::string_view name) const {
  if (name.empty() && models_.size() == 1) return models_.front().served;
  for (const RunningModel& model : models_) {
    if (model.served->name() == name) return model.served;
  }
  const std::string names =
      absl::StrJoin(models_, ", ", [](std::string* out, const auto& model) { out->append(model.served->name()); });
  if (name.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("model is empty; it has to name one of several models: ", names));
  }
  // A name as long as a message would make the error one.
  const std::string shown = absl::Utf8SafeCEscape({name.data(), std::min<size_t>(name.size(), 128)});
  return absl::NotFoundError(absl::StrCat("model is \"", shown, "\"; there are: ", names));
}

}  // namespace elserve
