#include "server/requests/source.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/requests/request_checks.h"
#include "server/text/frame.h"

namespace elserve {
namespace {

// `length`: what the source has, "1025" or "more than 1024".
absl::Status TooLong(const ServedModel& model, const SourceRules& rules, std::string_view field,
                     std::string_view length) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s has %s tokens; model %s takes at most %d%s (truncation: TRUNCATION_TRUNCATE cuts the %s off%s)", field,
      length, model.name(), rules.most_tokens, rules.why, model.tokenizer().truncates_left() ? "beginning" : "end",
      rules.may_chunk ? ", TRUNCATION_CHUNK takes it in parts" : ""));
}

// A prompt that is too long, its suffix whole and the text before it cut.
absl::StatusOr<Encoding> CutBeforeSuffix(const ServedModel& model, const SourceRules& rules, std::string_view prompt,
                                         const std::string& field) {
  const Tokenizer& tokenizer = model.tokenizer();
  const std::string& suffix = rules.prompt.suffix;
  const absl::StatusOr<Encoding> end =
      tokenizer.Encode(suffix, {.add_special_tokens = false, .max_tokens = rules.most_tokens});
  if (!end.ok()) return end.status();
  const absl::StatusOr<Frame> frame = tokenizer.FrameOf(rules.languages.source, rules.languages.target);
  if (!frame.ok()) return frame.status();
  const size_t around = frame->size() + end->ids.size();
  if (end->too_long || around >= rules.most_tokens) {
    return TooLong(model, rules, absl::StrCat(field, ", which is cut before the task's suffix,"),
                   absl::StrCat("more than ", rules.most_tokens));
  }
  const absl::StatusOr<Encoding> begin = tokenizer.Encode(
      prompt.substr(0, prompt.size() - suffix.size()),
      {.add_special_tokens = false, .spans = rules.spans, .max_tokens = rules.most_tokens - around, .truncate = true});
  if (!begin.ok()) return begin.status();
  Encoding cut{.ids = frame->before, .spans = {}, .too_long = true};
  for (const std::vector<int32_t>& part : {begin->ids, end->ids, frame->after}) {
    cut.ids.insert(cut.ids.end(), part.begin(), part.end());
  }
  if (rules.spans) {
    // The suffix's are no part of the text, and need no place.
    cut.spans.resize(cut.ids.size());
    std::copy(begin->spans.begin(), begin->spans.end(),
              cut.spans.begin() + static_cast<std::ptrdiff_t>(frame->before.size()));
  }
  return cut;
}

absl::StatusOr<Encoding> Encode(const ServedModel& model, const SourceRules& rules, std::string_view prompt,
                                const std::string& field, EncodeOptions options) {
  options.source_language = rules.languages.source;
  options.target_language = rules.languages.target;
  options.spans = rules.spans;
  absl::StatusOr<Encoding> encoding = model.tokenizer().Encode(prompt, options);
  if (encoding.ok()) return encoding;
  return absl::Status(encoding.status().code(), absl::StrCat(field, ": ", encoding.status().message()));
}

// A tokenizer may have more tokens than the checkpoint has embeddings.
absl::Status CheckTokens(std::span<const int32_t> ids, const std::string& field, const ServedModel& model) {
  return CheckIds(ids, absl::StrCat(field, ": token "), model);
}

// Cuts token ids that are too many, or refuses them.
absl::Status LimitIds(const ServedModel& model, const SourceRules& rules, EncodedSource* source) {
  const size_t limit = rules.most_tokens;
  if (source->ids.size() <= limit) return absl::OkStatus();
  if (rules.truncation != v1::TRUNCATION_TRUNCATE) {
    return TooLong(model, rules, "token_ids", absl::StrCat(source->ids.size()));
  }
  source->ids.resize(limit);
  source->truncated = true;
  return absl::OkStatus();
}

// Nothing is put around token ids: a language that stands there would be ignored.
absl::Status CheckLanguagesOfIds(const ServedModel& model, const TextLanguages& languages) {
  const bool target_in_source = model.tokenizer().target_language_use() == TargetLanguageUse::kBeforeText;
  const bool source = !languages.source.empty();
  if (!source && (!target_in_source || languages.target.empty())) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      source ? "source_language" : "target_language", " is \"", source ? languages.source : languages.target,
      "\"; token_ids allow none: the encoder gets them as they are, the language's token among them"));
}

}  // namespace

absl::StatusOr<EncodedSource> EncodeText(const ServedModel& model, const SourceRules& rules, std::string_view prompt,
                                         const std::string& field, bool suffix) {
  const size_t limit = rules.most_tokens;
  const bool truncate = rules.truncation == v1::TRUNCATION_TRUNCATE;
  absl::StatusOr<Encoding> encoding = Encode(model, rules, prompt, field, {.max_tokens = limit, .truncate = truncate});
  if (!encoding.ok()) return encoding.status();
  if (encoding->too_long && !truncate) return TooLong(model, rules, field, absl::StrCat("more than ", limit));
  if (encoding->too_long && suffix) {
    absl::StatusOr<Encoding> cut = CutBeforeSuffix(model, rules, prompt, field);
    if (!cut.ok()) return cut.status();
    *encoding = *std::move(cut);
  }
  if (const absl::Status status = CheckTokens(encoding->ids, field, model); !status.ok()) return status;
  return EncodedSource{
      .ids = std::move(encoding->ids), .truncated = encoding->too_long, .spans = std::move(encoding->spans)};
}

absl::StatusOr<std::optional<EncodedSource>> EncodeIfItFits(const ServedModel& model, const SourceRules& rules,
                                                            std::string_view prompt, const std::string& field,
                                                            size_t most_tokens) {
  absl::StatusOr<Encoding> encoding =
      Encode(model, rules, prompt, field, {.max_tokens = std::min(most_tokens, rules.most_tokens)});
  if (!encoding.ok()) return encoding.status();
  if (encoding->too_long) return std::nullopt;
  if (const absl::Status status = CheckTokens(encoding->ids, field, model); !status.ok()) return status;
  return EncodedSource{.ids = std::move(encoding->ids), .spans = std::move(encoding->spans)};
}

absl::StatusOr<EncodedSource> EncodeInput(const ServedModel& model, const SourceRules& rules,
                                          const GenerationRequest& request) {
  if (const auto* text = std::get_if<std::string>(&request.input)) {
    if (const absl::Status status = CheckText(*text, "text"); !status.ok()) return status;
    return EncodeText(model, rules, *text, "text");
  }
  const auto* ids = std::get_if<std::vector<int32_t>>(&request.input);
  if (ids == nullptr) return absl::InvalidArgumentError("input is not set; it needs text or token_ids");
  if (ids->empty()) return absl::InvalidArgumentError("token_ids is empty; it needs at least one id");
  EncodedSource source{.ids = *ids};
  if (const absl::Status status = CheckLanguagesOfIds(model, request.languages); !status.ok()) return status;
  if (const absl::Status status = LimitIds(model, rules, &source); !status.ok()) return status;
  if (const absl::Status status = CheckIds(source.ids, "token_ids.ids", model); !status.ok()) return status;
  return source;
}

}  // namespace elserve
