#include "engine/model/families/family.h"

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/families/bart.h"
#include "engine/model/families/tensor_names.h"

namespace elserve {
namespace {

struct Family {
  std::string_view model_type;  // in config.json
  absl::StatusOr<ModelConfig> (*read_config)(const ConfigFile& file);
  const TensorNames* names;
};

constexpr std::array kFamilies = {
    Family{"bart", ReadBartConfig, &kBartNames},
};

}  // namespace

absl::StatusOr<HostModel> LoadHostModel(const Checkpoint& checkpoint) {
  const ConfigFile& file = checkpoint.config();
  const absl::StatusOr<std::string> model_type = file.String("model_type", std::nullopt);
  if (!model_type.ok()) return model_type.status();
  std::string supported;
  for (const Family& family : kFamilies) {
    absl::StrAppend(&supported, supported.empty() ? "" : ", ", std::string(family.model_type));
    if (family.model_type != *model_type) continue;
    absl::StatusOr<ModelConfig> config = family.read_config(file);
    if (!config.ok()) return config.status();
    config->model_type = *model_type;
    absl::StatusOr<ModelWeights> weights = FindWeights(checkpoint, *config, *family.names);
    if (!weights.ok()) return weights.status();
    return HostModel{*std::move(config), *std::move(weights)};
  }
  return file.Error("model_type", absl::StrCat("one of the supported families: ", supported));
}

}  // namespace elserve
