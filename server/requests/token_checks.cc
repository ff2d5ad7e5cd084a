#include "server/requests/token_checks.h"

#include "absl/strings/str_cat.h"
#include "server/text/utf8.h"

namespace elserve {

absl::Status CheckText(std::string_view text, const std::string& field) {
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(field, " is empty; it has to hold text"));
  return CheckUtf8(text, field);
}

absl::Status CheckIds(std::span<const int32_t> ids, const std::string& field, const ServedModel& model) {
  const int32_t vocab_size = model.info().vocab_size;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, "[", i, "] is ", ids[i], "; allowed are 0 to ", vocab_size - 1));
  }
  return absl::OkStatus();
}

}  // namespace elserve
