#include "server/requests/request_checks.h"

#include <random>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

constexpr size_t kMaxRequestId = 128;

}  // namespace

absl::StatusOr<std::string> RequestId(const std::string& id) {
  if (id.empty()) {
    thread_local std::mt19937_64 random{std::random_device{}()};
    return absl::StrFormat("%016x", random());
  }
  if (id.size() > kMaxRequestId) {
    return absl::InvalidArgumentError(absl::StrCat("request_id has ", id.size(), " bytes; allowed are at most ",
                                                   kMaxRequestId, " printable ASCII characters"));
  }
  for (size_t i = 0; i < id.size(); ++i) {
    if (id[i] >= 0x20 && id[i] < 0x7f) continue;
    return absl::InvalidArgumentError(absl::StrCat("request_id is \"", absl::Utf8SafeCEscape(id), "\"; byte ", i,
                                                   " is no printable ASCII character"));
  }
  return id;
}

absl::Status CheckTruncation(v1::Truncation truncation, bool may_chunk) {
  if (v1::Truncation_IsValid(truncation) && (may_chunk || truncation != v1::TRUNCATION_CHUNK)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "truncation is ", static_cast<int>(truncation), "; allowed are TRUNCATION_REJECT (1)",
      may_chunk ? ", TRUNCATION_TRUNCATE (2) and TRUNCATION_CHUNK (3)" : " and TRUNCATION_TRUNCATE (2)",
      truncation == v1::TRUNCATION_CHUNK ? "; TRUNCATION_CHUNK is for Summarize and GenerateQuestions" : ""));
}

absl::Status CheckOnDeadline(v1::OnDeadline on_deadline) {
  if (v1::OnDeadline_IsValid(on_deadline)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("on_deadline is ", static_cast<int>(on_deadline),
                                                 "; allowed are ON_DEADLINE_FAIL (1) and ON_DEADLINE_BEST_SO_FAR (2)"));
}

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
