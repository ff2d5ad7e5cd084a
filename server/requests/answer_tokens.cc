#include "server/requests/answer_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/requests/token_checks.h"

namespace elserve {
namespace {

// What the decoder has before an answer's own text: its start token, and behind it the token that is forced there, or
// else what the family's labels begin with (BART's <s>); a language that stands there is forced or it is the source's.
absl::StatusOr<std::vector<int32_t>> BeforeAnswer(const Tokenizer& tokenizer, const v1::DecodingParameters& merged) {
  std::vector<int32_t> tokens = {merged.decoder_start_token_id()};
  if (merged.has_forced_bos_token_id() && merged.forced_bos_token_id() >= 0) {
    tokens.push_back(merged.forced_bos_token_id());
    return tokens;
  }
  const absl::StatusOr<Frame> frame = tokenizer.FrameOf("", "");
  if (!frame.ok()) return frame.status();
  for (const int32_t id : frame->before) {
    const auto& languages = tokenizer.languages();
    const bool language =
        std::any_of(languages.begin(), languages.end(), [id](const Language& l) { return l.id == id; });
    if (!language) tokens.push_back(id);
  }
  return tokens;
}

}  // namespace

absl::StatusOr<AnswerText> AnswerTokens(const ServedModel& model, const std::string& text, const std::string& field,
                                        const v1::DecodingParameters& merged, int room) {
  if (const absl::Status status = CheckText(text, field); !status.ok()) return status;
  if (!model.tokenizer().encodes_answers()) {
    return absl::InvalidArgumentError(absl::StrCat(
        field,
        " is set; the model's answers are made of another vocabulary model than its sources, so only token ids "
        "are allowed"));
  }
  absl::StatusOr<std::vector<int32_t>> tokens = BeforeAnswer(model.tokenizer(), merged);
  if (!tokens.ok()) return tokens.status();
  AnswerText answer{.tokens = *std::move(tokens)};
  answer.begin = static_cast<int>(answer.tokens.size());
  const size_t most = static_cast<size_t>(std::max(0, room - answer.begin));
  const absl::StatusOr<Encoding> encoding =
      model.tokenizer().Encode(text, {.add_special_tokens = false, .max_tokens = most});
  if (!encoding.ok()) {
    return absl::Status(encoding.status().code(), absl::StrCat(field, ": ", encoding.status().message()));
  }
  if (encoding->too_long) {
    return absl::InvalidArgumentError(absl::StrCat(field, " has more than ", most,
                                                   " tokens; the model's max_decoder_tokens is ",
                                                   model.info().max_decoder_tokens, ", special ones included"));
  }
  if (const absl::Status status = CheckIds(encoding->ids, absl::StrCat(field, ": token "), model); !status.ok()) {
    return status;
  }
  answer.tokens.insert(answer.tokens.end(), encoding->ids.begin(), encoding->ids.end());
  return answer;
}

absl::StatusOr<std::vector<int32_t>> AnswerIds(const ServedModel& model, const v1::TokenList& list,
                                               const std::string& field, int room) {
  if (list.ids().empty()) return absl::InvalidArgumentError(absl::StrCat(field, " is empty; it needs at least one id"));
  if (list.ids_size() > room) {
    return absl::InvalidArgumentError(absl::StrCat(field, " has ", list.ids_size(), " ids; allowed are at most ", room,
                                                   ", since the model's max_decoder_tokens is ",
                                                   model.info().max_decoder_tokens));
  }
  std::vector<int32_t> ids(list.ids().begin(), list.ids().end());
  if (const absl::Status status = CheckIds(ids, absl::StrCat(field, ".ids"), model); !status.ok()) return status;
  return ids;
}

}  // namespace elserve
