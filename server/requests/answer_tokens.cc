#include "server/requests/answer_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/requests/request_checks.h"

namespace elserve {
namespace {

absl::Status TooMany(const ServedModel& model, const std::string& what, int room) {
  return absl::InvalidArgumentError(absl::StrCat(what, "; allowed are at most ", std::max(0, room),
                                                 " beside what stands before them, since the model's "
                                                 "max_decoder_tokens is ",
                                                 model.info().max_decoder_tokens));
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> BeforeAnswer(const Tokenizer& tokenizer, const v1::DecodingParameters& merged) {
  std::vector<int32_t> tokens = {merged.decoder_start_token_id()};
  if (merged.has_forced_bos_token_id() && merged.forced_bos_token_id() >= 0) {
    tokens.push_back(merged.forced_bos_token_id());
    return tokens;
  }
  const absl::StatusOr<Frame> frame = tokenizer.FrameOf("", "");
  if (!frame.ok()) return frame.status();
  for (const int32_t id : frame->before) {
    // A language that stands there is forced, or it is the source's.
    const auto& languages = tokenizer.languages();
    const bool language =
        std::any_of(languages.begin(), languages.end(), [id](const Language& l) { return l.id == id; });
    if (!language) tokens.push_back(id);
  }
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> AnswerTextIds(const ServedModel& model, const std::string& text,
                                                   const std::string& field, int room) {
  if (const absl::Status status = CheckText(text, field); !status.ok()) return status;
  const auto most = static_cast<size_t>(std::max(0, room));
  absl::StatusOr<Encoding> encoding =
      model.tokenizer().Encode(text, {.add_special_tokens = false, .is_answer = true, .max_tokens = most});
  if (!encoding.ok()) {
    return absl::Status(encoding.status().code(), absl::StrCat(field, ": ", encoding.status().message()));
  }
  if (encoding->too_long) return TooMany(model, absl::StrCat(field, " has more than ", most, " tokens"), room);
  if (const absl::Status status = CheckIds(encoding->ids, absl::StrCat(field, ": token "), model); !status.ok()) {
    return status;
  }
  return std::move(encoding->ids);
}

absl::StatusOr<std::vector<int32_t>> AnswerIds(const ServedModel& model, const std::vector<int32_t>& ids,
                                               const std::string& field, int room) {
  if (ids.empty()) return absl::InvalidArgumentError(absl::StrCat(field, " is empty; it needs at least one id"));
  if (room < 0 || ids.size() > static_cast<size_t>(room)) {
    return TooMany(model, absl::StrCat(field, " has ", ids.size(), " ids"), room);
  }
  if (const absl::Status status = CheckIds(ids, absl::StrCat(field, ".ids"), model); !status.ok()) return status;
  return ids;
}

}  // namespace elserve
