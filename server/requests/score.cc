#include "server/requests/score.h"

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/parameters/parameters.h"
#include "server/requests/answer_tokens.h"
#include "server/requests/request_checks.h"
#include "server/requests/source.h"

namespace elserve {
namespace {

absl::StatusOr<SourceRules> RulesOf(const ServedModel& model, const GenerationRequest& request) {
  if (const absl::Status status = CheckTruncation(request.truncation, /*may_chunk=*/false); !status.ok()) return status;
  SourceRules rules;
  rules.languages = model.LanguagesOf(request.languages.source, request.languages.target);
  rules.truncation = request.truncation;
  rules.most_tokens = static_cast<size_t>(model.info().max_source_tokens);
  if (model.info().decoder_only) {
    rules.most_tokens = static_cast<size_t>(model.info().max_decoder_tokens - 1);
    rules.why = absl::StrCat(" before a target's first of max_decoder_tokens, ", model.info().max_decoder_tokens);
  }
  return rules;
}

// The model's defaults, and what a target language sets.
absl::StatusOr<v1::DecodingParameters> ParametersOf(const ServedModel& model, const SourceRules& rules,
                                                    const GenerationRequest& request) {
  const absl::StatusOr<v1::DecodingParameters> language = model.LanguageParameters(rules.languages);
  if (!language.ok()) return language.status();
  v1::DecodingParameters merged = model.defaults();
  if (!request.languages.target.empty()) MergeParameters(*language, &merged);
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
absl::StatusOr<DecodingSpec> TargetDecoding(const ServedModel& model, const TextOrIds& target, const std::string& field,
                                            const Beginnings& begin) {
  const auto* const text = std::get_if<std::string>(&target);
  const auto* const list = std::get_if<std::vector<int32_t>>(&target);
  if (text == nullptr && list == nullptr) {
    return absl::InvalidArgumentError(field + " is not set; it needs text or token_ids");
  }
  if (text != nullptr && !begin.eos) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".text is set, and model \"", model.name(),
                     "\" has no eos_token_id to end it with; only token_ids are allowed"));
  }
  DecodingSpec decoding;
  decoding.prefix = text != nullptr ? begin.text : begin.ids;
  decoding.score_from = static_cast<int>(decoding.prefix.size());
  const int room = model.info().max_decoder_tokens - decoding.score_from;
  const absl::StatusOr<std::vector<int32_t>> ids = text != nullptr
                                                       ? AnswerTextIds(model, *text, field + ".text", room - 1)
                                                       : AnswerIds(model, *list, field + ".token_ids", room);
  if (!ids.ok()) return ids.status();
  decoding.prefix.insert(decoding.prefix.end(), ids->begin(), ids->end());
  if (text != nullptr) decoding.prefix.push_back(*begin.eos);
  decoding.max_length = static_cast<int>(decoding.prefix.size());
  // A tokenizer with more tokens than the checkpoint has embeddings.
  if (const absl::Status status = CheckIds(decoding.prefix, field + ": token ", model); !status.ok()) return status;
  return decoding;
}

}  // namespace

absl::StatusOr<std::vector<PlannedJob>> ScoreJobs(const ServedModel& model, const GenerationRequest& request) {
  const absl::StatusOr<SourceRules> rules = RulesOf(model, request);
  if (!rules.ok()) return rules.status();
  if (request.targets.empty() || request.targets.size() > kMaxTargets) {
    return absl::InvalidArgumentError(
        absl::StrCat("targets has ", request.targets.size(), " entries; allowed are 1 to ", kMaxTargets));
  }
  const absl::StatusOr<v1::DecodingParameters> merged = ParametersOf(model, *rules, request);
  if (!merged.ok()) return merged.status();
  const absl::StatusOr<EncodedSource> source = EncodeInput(model, *rules, request);
  if (!source.ok()) return source.status();
  const absl::StatusOr<Beginnings> begin = BeginningsOf(model, source->ids, *merged);
  if (!begin.ok()) return begin.status();
  std::vector<int32_t> eos;
  for (const int32_t id : merged->eos_token_id()) {
    if (id >= 0) eos.push_back(id);
  }
  std::vector<PlannedJob> jobs;
  for (size_t i = 0; i < request.targets.size(); ++i) {
    absl::StatusOr<DecodingSpec> decoding =
        TargetDecoding(model, request.targets[i], absl::StrCat("targets[", i, "]"), *begin);
    if (!decoding.ok()) return decoding.status();
    decoding->eos_token_id = eos;
    PlannedJob& job = jobs.emplace_back();
    job.decoding = *std::move(decoding);
    // A decoder-only model's prompt is what the prefix begins with.
    if (!model.info().decoder_only) job.source = source->ids;
    job.source_tokens = static_cast<int>(source->ids.size());
    job.truncated = source->truncated;
  }
  return jobs;
}

}  // namespace elserve
