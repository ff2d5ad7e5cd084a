#include "server/requests/prepare_source.h"

#include <cstdint>
#include <utility>
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
      "%s has %s tokens; model %s takes at most %d%s (truncation: TRUNCATION_TRUNCATE cuts the %s off)", field, length,
      model.name(), rules.most_tokens, rules.why, model.tokenizer().truncates_left() ? "beginning" : "end"));
}

// A prompt that is too long, its suffix whole and the text before it cut.
absl::StatusOr<std::vector<int32_t>> CutBeforeSuffix(const ServedModel& model, const SourceRules& rules,
                                                     std::string_view prompt, const std::string& field) {
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
  const absl::StatusOr<Encoding> begin =
      tokenizer.Encode(prompt.substr(0, prompt.size() - suffix.size()),
                       {.add_special_tokens = false, .max_tokens = rules.most_tokens - around, .truncate = true});
  if (!begin.ok()) return begin.status();
  std::vector<int32_t> ids = frame->before;
  for (const std::vector<int32_t>& part : {begin->ids, end->ids, frame->after}) {
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

// Cuts token ids that are too many, or refuses them.
absl::Status LimitIds(const ServedModel& model, const SourceRules& rules, PreparedCall::Job* job) {
  const size_t limit = rules.most_tokens;
  if (job->source.size() <= limit) return absl::OkStatus();
  if (rules.truncation != v1::TRUNCATION_TRUNCATE) {
    return TooLong(model, rules, "token_ids", absl::StrCat(job->source.size()));
  }
  job->source.resize(limit);
  job->truncated = true;
  return absl::OkStatus();
}

// Nothing is put around token ids: a language that stands there would be ignored.
template <typename Request>
absl::Status CheckLanguagesOfIds(const ServedModel& model, const Request& request) {
  const bool target_in_source = model.tokenizer().target_language_use() == TargetLanguageUse::kBeforeText;
  const bool source = !request.source_language().empty();
  if (!source && (!target_in_source || request.target_language().empty())) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(source ? "source_language" : "target_language", " is \"",
                   source ? request.source_language() : request.target_language(),
                   "\"; token_ids allow none: the encoder gets them as they are, the language's token among them"));
}

}  // namespace

absl::StatusOr<PreparedCall::Job> PrepareText(const ServedModel& model, const SourceRules& rules,
                                              std::string_view prompt, const std::string& field, bool suffix) {
  const size_t limit = rules.most_tokens;
  const bool truncate = rules.truncation == v1::TRUNCATION_TRUNCATE;
  absl::StatusOr<Encoding> encoding = model.tokenizer().Encode(prompt, {.source_language = rules.languages.source,
                                                                        .target_language = rules.languages.target,
                                                                        .max_tokens = limit,
                                                                        .truncate = truncate});
  if (!encoding.ok()) {
    return absl::Status(encoding.status().code(), absl::StrCat(field, ": ", encoding.status().message()));
  }
  if (encoding->too_long && !truncate) return TooLong(model, rules, field, absl::StrCat("more than ", limit));
  if (encoding->too_long && suffix) {
    absl::StatusOr<std::vector<int32_t>> cut = CutBeforeSuffix(model, rules, prompt, field);
    if (!cut.ok()) return cut.status();
    encoding->ids = *std::move(cut);
  }
  PreparedCall::Job job{.source = std::move(encoding->ids), .truncated = encoding->too_long};
  // A tokenizer with more tokens than the checkpoint has embeddings.
  if (const absl::Status status = CheckIds(job.source, absl::StrCat(field, ": token "), model); !status.ok()) {
    return status;
  }
  return job;
}

template <typename Request>
absl::StatusOr<PreparedCall::Job> PrepareInput(const ServedModel& model, const SourceRules& rules,
                                               const Request& request) {
  if (request.has_text()) {
    if (const absl::Status status = CheckText(request.text(), "text"); !status.ok()) return status;
    return PrepareText(model, rules, request.text(), "text");
  }
  if (!request.has_token_ids()) return absl::InvalidArgumentError("input is not set; it needs text or token_ids");
  PreparedCall::Job job{.source = {request.token_ids().ids().begin(), request.token_ids().ids().end()}};
  if (job.source.empty()) return absl::InvalidArgumentError("token_ids is empty; it needs at least one id");
  if (const absl::Status status = CheckLanguagesOfIds(model, request); !status.ok()) return status;
  if (const absl::Status status = LimitIds(model, rules, &job); !status.ok()) return status;
  if (const absl::Status status = CheckIds(job.source, "token_ids.ids", model); !status.ok()) return status;
  return job;
}

template absl::StatusOr<PreparedCall::Job> PrepareInput(const ServedModel&, const SourceRules&,
                                                        const v1::GenerateRequest&);
template absl::StatusOr<PreparedCall::Job> PrepareInput(const ServedModel&, const SourceRules&,
                                                        const v1::ScoreRequest&);

}  // namespace elserve
