// JSON from untrusted files: bounded in depth and in the number of values, and no key twice in one object.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_BOUNDED_JSON_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_BOUNDED_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace elserve {

// A parsed value takes up to about 200 bytes, however little text it stands in: so values are counted, too.
inline constexpr int kMaxJsonDepth = 64;
inline constexpr int64_t kMaxJsonValues = 1'000'000;

// `path` is for messages. The value at the top must be an object. NaN, Infinity and numbers beyond float64 are no JSON.
absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& path, std::string_view text);

// A value as an error message shows it: compact, printable, cut to a few hundred bytes.
std::string ValueText(const nlohmann::json& value);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_BOUNDED_JSON_H_
