// Score requests: sources are made as Generate makes them; what the decoder is fed is the target.
#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/parameters/parameters.h"
#include "server/requests/answer_tokens.h"
#include "server/requests/prepare.h"
#include "server/requests/prepare_source.h"
#include "server/requests/request_checks.h"

namespace elserve {
namespace {

absl::StatusOr<SourceRules> RulesOf(const ServedModel& model, const v1::ScoreRequest& request) {
  if (const absl::Status status = CheckTruncation(request.truncation()); !status.ok()) return status;
  SourceRules rules;
  rules.languages = model.LanguagesOf(request.source_language(), request.target_language());
  rules.truncation = request.truncation();
  rules.most_tokens = static_cast<size_t>(model.info().max_source_tokens);
  if (model.info().decoder_only) {
    rules.most_tokens = static_cast<size_t>(model.info().max_decoder_tokens - 1);
    rules.why = absl::StrCat(" before a target's first of max_decoder_tokens, ", model.info().max_decoder_tokens);
  }
  return rules;
}

// The model's defaults, and what a target language sets.
absl::StatusOr<v1::DecodingParameters> ParametersOf(const ServedModel& model, const SourceRules& rules,
                                                    const v1::ScoreRequest& request) {
  const absl::StatusOr<v1::DecodingParameters> language = model.LanguageParameters(rules.languages);
  if (!language.ok()) return language.status();
  v1::DecodingParameters merged = model.defaults();
  if (!request.target_language().empty()) MergeParameters(*language, &merged);
  if (!model.info().decoder_only && !merged.has_decoder_start_token_id()) {
    return absl::InvalidArgumentError(absl::StrCat("decoder_start_token_id is not among the defaults of model \"",
                                                   model.name(), "\"; Score needs one"));
  }
  return merged;
}

// What a target may stand behind.
struct Beginnings {
  std::vector<int32_t> ids, text;  // of a target of ids, and of one of text
  std::optional<int32_t> eos;      // ends texts
};

absl::StatusOr<Beginnings> BeginningsOf(const ServedModel& model, const std::vector<int32_t>& source,
                                        const v1::DecodingParameters& merged) {
  Beginnings begin;
  if (!merged.eos_token_id().empty() && merged.eos_token_id(0) >= 0) begin.eos = merged.eos_token_id(0);
  if (model.info().decoder_only) {
    begin.ids = begin.text = source;
    return begin;
  }
  absl::StatusOr<std::vector<int32_t>> text = BeforeAnswer(model.tokenizer(), merged);
  if (!text.ok()) return text.status();
  begin.ids = {merged.decoder_start_token_id()};
  begin.text = *std::move(text);
  return begin;
}

// What the decoder is fed for a target, and from where on it is scored.
absl::StatusOr<PreparedCall::Job> TargetJob(const ServedModel& model, const v1::ScoreRequest::Target& target,
                                            const std::string& field, const Beginnings& begin) {
  if (!target.has_token_ids() && !target.has_text()) {
    return absl::InvalidArgumentError(field + " is not set; it needs text or token_ids");
  }
  if (target.has_text() && !begin.eos) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".text is set, and model \"", model.name(),
                     "\" has no eos_token_id to end it with; only token_ids are allowed"));
  }
  PreparedCall::Job job;
  job.prefix = target.has_text() ? begin.text : begin.ids;
  job.score_from = static_cast<int>(job.prefix.size());
  const int room = model.info().max_decoder_tokens - job.score_from;
  const absl::StatusOr<std::vector<int32_t>> ids =
      target.has_text() ? AnswerTextIds(model, target.text(), field + ".text", room - 1)
                        : AnswerIds(model, target.token_ids(), field + ".token_ids", room);
  if (!ids.ok()) return ids.status();
  job.prefix.insert(job.prefix.end(), ids->begin(), ids->end());
  if (target.has_text()) job.prefix.push_back(*begin.eos);
  // A tokenizer with more tokens than the checkpoint has embeddings.
  if (const absl::Status status = CheckIds(job.prefix, field + ": token ", model); !status.ok()) return status;
  return job;
}

}  // namespace

absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::ScoreRequest& request, bool) {
  PreparedCall call;
  absl::StatusOr<std::string> request_id = RequestId(request.request_id());
  if (!request_id.ok()) return request_id.status();
  absl::StatusOr<std::shared_ptr<const ServedModel>> found = models.Find(request.model());
  if (!found.ok()) return found.status();
  const ServedModel& model = **found;
  const absl::StatusOr<SourceRules> rules = RulesOf(model, request);
  if (!rules.ok()) return rules.status();
  if (request.targets().empty() || request.targets_size() > kMaxTargets) {
    return absl::InvalidArgumentError(
        absl::StrCat("targets has ", request.targets_size(), " entries; allowed are 1 to ", kMaxTargets));
  }
  const absl::StatusOr<v1::DecodingParameters> merged = ParametersOf(model, *rules, request);
  if (!merged.ok()) return merged.status();
  absl::StatusOr<PreparedCall::Job> source = PrepareInput(model, *rules, request);
  if (!source.ok()) return source.status();
  const absl::StatusOr<Beginnings> begin = BeginningsOf(model, source->source, *merged);
  if (!begin.ok()) return begin.status();
  // A decoder-only model's prompt is the prefix, which all targets have.
  if (model.info().decoder_only) call.decoding.prefix = std::exchange(source->source, {});
  for (int i = 0; i < request.targets_size(); ++i) {
    absl::StatusOr<PreparedCall::Job> job =
        TargetJob(model, request.targets(i), absl::StrCat("targets[", i, "]"), *begin);
    if (!job.ok()) return job.status();
    job->source = source->source;
    job->truncated = source->truncated;
    call.jobs.push_back(*std::move(job));
  }
  for (const int32_t id : merged->eos_token_id()) {
    if (id >= 0) call.decoding.eos_token_id.push_back(id);
  }
  call.model = *std::move(found);
  call.request_id = *std::move(request_id);
  call.token_logprobs = true;
  return call;
}

}  // namespace elserve
