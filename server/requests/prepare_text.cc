#include "server/requests/prepare_text.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/requests/token_checks.h"
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

}  // namespace

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

}  // namespace elserve
