#include "server/requests/job_maker.h"

#include <algorithm>
#include <random>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/parameters/parameters.h"
#include "server/requests/answer_tokens.h"
#include "server/requests/request_checks.h"
#include "server/requests/text_parameters.h"

namespace elserve {
namespace {

// For a request that draws and does not say from where.
uint64_t DrawSeed() {
  std::random_device entropy;
  return uint64_t{entropy()} << 32 | entropy();
}

// decoder_input_ids as the request has them; none: empty. One more token has to fit behind them.
absl::StatusOr<std::vector<int32_t>> AnswerPrefix(const ServedModel& model, const TextOrIds& prefix,
                                                  const v1::DecodingParameters& merged) {
  const int room = model.info().max_decoder_tokens - 1;
  if (const auto* const text = std::get_if<std::string>(&prefix)) {
    absl::StatusOr<std::vector<int32_t>> tokens = BeforeAnswer(model.tokenizer(), merged);
    if (!tokens.ok()) return tokens.status();
    const absl::StatusOr<std::vector<int32_t>> ids =
        AnswerTextIds(model, *text, "prefix_text", room - static_cast<int>(tokens->size()));
    if (!ids.ok()) return ids.status();
    tokens->insert(tokens->end(), ids->begin(), ids->end());
    return tokens;
  }
  const auto* const ids = std::get_if<std::vector<int32_t>>(&prefix);
  if (ids == nullptr) return std::vector<int32_t>();
  return AnswerIds(model, *ids, "prefix_token_ids", room);
}

absl::Status CheckOptions(const GenerationRequest& request, bool may_chunk) {
  absl::Status status = CheckTruncation(request.truncation, may_chunk);
  status.Update(CheckOnDeadline(request.on_deadline));
  if (!status.ok()) return status;
  if (request.top_logprobs >= 0 && request.top_logprobs <= kMaxTopLogprobs) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("top_logprobs is ", request.top_logprobs, "; allowed are 0 to ", kMaxTopLogprobs));
}

}  // namespace

absl::StatusOr<JobMaker> JobMaker::Create(std::shared_ptr<const ServedModel> model, const GenerationRequest& request,
                                          ServedTask task) {
  const bool may_chunk = request.task != GenerationRequest::Task::kGenerate;
  if (const absl::Status status = CheckOptions(request, may_chunk); !status.ok()) return status;
  JobMaker maker;
  maker.model_ = std::move(model);
  maker.rules_.prompt = std::move(task.prompt);
  maker.rules_.languages = maker.model_->LanguagesOf(request.languages.source, request.languages.target);
  maker.rules_.truncation = request.truncation;
  maker.rules_.may_chunk = may_chunk;
  maker.rules_.most_tokens = static_cast<size_t>(maker.model_->info().max_source_tokens);
  maker.top_logprobs_ = request.top_logprobs;
  maker.stream_ = IsStream(request.origin.rpc);
  absl::StatusOr<v1::DecodingParameters> merged = maker.Merge(request, std::move(task.defaults));
  if (!merged.ok()) return merged.status();
  maker.merged_ = *std::move(merged);
  if (const absl::Status status = maker.TakeAnswerPrefix(request); !status.ok()) return status;
  return maker;
}

absl::StatusOr<v1::DecodingParameters> JobMaker::Merge(const GenerationRequest& request,
                                                       v1::DecodingParameters defaults) const {
  const ModelLimits limits = model_->limits();
  if (const absl::Status status = ValidateParameters(request.parameters, &limits); !status.ok()) return status;
  const absl::StatusOr<v1::DecodingParameters> language = model_->LanguageParameters(rules_.languages);
  if (!language.ok()) return language.status();
  v1::DecodingParameters merged = std::move(defaults);
  // The defaults have the configuration's language, under parameters that win over it.
  if (!request.languages.target.empty()) MergeParameters(*language, &merged);
  MergeParameters(request.parameters, &merged);
  if (const absl::Status status = CheckSampling(request.parameters, merged); !status.ok()) return status;
  if (absl::Status status = TakeBadWords(model_->tokenizer(), &merged); !status.ok()) return status;
  if (merged.do_sample() && !merged.has_seed()) merged.set_seed(DrawSeed());
  return merged;
}

absl::Status JobMaker::TakeAnswerPrefix(const GenerationRequest& request) {
  if (model_->info().decoder_only) {
    if (!std::holds_alternative<std::monostate>(request.answer_prefix)) {
      return absl::InvalidArgumentError(
          "answer_prefix is set; the model is decoder-only: what its answer begins with is the end of the prompt");
    }
    LimitPrompt();
    return absl::OkStatus();
  }
  const absl::StatusOr<std::vector<int32_t>> prefix = AnswerPrefix(*model_, request.answer_prefix, merged_);
  if (!prefix.ok()) return prefix.status();
  absl::StatusOr<DecodingSpec> decoding = Resolve(*prefix);
  if (!decoding.ok()) return decoding.status();
  decoding_ = *std::move(decoding);
  answer_prefix_.assign(decoding_.prefix.begin() + 1, decoding_.prefix.end());
  return absl::OkStatus();
}

// A prompt shares the decoder's positions with the answer: at least one token, or as many as the request wants.
void JobMaker::LimitPrompt() {
  const int positions = model_->info().max_decoder_tokens;
  if (merged_.has_max_new_tokens()) {
    rules_.most_tokens = static_cast<size_t>(std::max(0, positions - merged_.max_new_tokens()));
    rules_.why =
        absl::StrCat(" before max_new_tokens, ", merged_.max_new_tokens(), ", of max_decoder_tokens, ", positions);
  } else if (merged_.has_max_length()) {
    rules_.most_tokens = static_cast<size_t>(std::max(0, std::min(merged_.max_length(), positions) - 1));
    rules_.why = absl::StrCat(" before one more of max_length, ", merged_.max_length());
  } else {
    rules_.most_tokens = static_cast<size_t>(positions - 1);
    rules_.why = absl::StrCat(" before one more of max_decoder_tokens, ", positions);
  }
}

// What parameters and prefix (of a decoder-only model its prompt) come to.
absl::StatusOr<DecodingSpec> JobMaker::Resolve(std::span<const int32_t> prefix) {
  absl::StatusOr<ResolvedParameters> resolved = ResolveParameters(merged_, model_->limits(), prefix);
  if (!resolved.ok()) return resolved.status();
  DecodingSpec decoding = std::move(resolved->spec);
  if (stream_ && decoding.num_return_sequences != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_return_sequences is ", decoding.num_return_sequences, "; a stream allows 1"));
  }
  if (top_logprobs_ > 0 && decoding.remove_invalid_values) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_logprobs is ", top_logprobs_,
                     "; allowed is 0 with remove_invalid_values: logits that are not finite have "
                     "no log-probabilities"));
  }
  decoding.top_logprobs = top_logprobs_;
  absl::StatusOr<std::shared_ptr<const StopStrings>> stop = StopStringsOf(*model_, merged_);
  if (!stop.ok()) return stop.status();
  decoding.stop_strings = *std::move(stop);
  if (!effective_) effective_ = std::move(resolved->effective);
  // A tokenizer with more tokens than the checkpoint has embeddings.
  if (absl::Status status = CheckIds(decoding.prefix, "the answer's prefix: token ", *model_); !status.ok()) {
    return status;
  }
  return decoding;
}

absl::StatusOr<PlannedJob> JobMaker::OfText(std::string_view prompt, const std::string& field, bool suffix) {
  absl::StatusOr<EncodedSource> source = EncodeText(*model_, rules_, prompt, field, suffix);
  if (!source.ok()) return source.status();
  return OfSource(*std::move(source));
}

absl::StatusOr<std::optional<PlannedJob>> JobMaker::OfTextIfItFits(std::string_view prompt, const std::string& field,
                                                                   size_t most_tokens) {
  absl::StatusOr<std::optional<EncodedSource>> source = EncodeIfItFits(*model_, rules_, prompt, field, most_tokens);
  if (!source.ok()) return source.status();
  if (!*source) return std::nullopt;
  return OfSource(**std::move(source));
}

absl::StatusOr<PlannedJob> JobMaker::OfInput(const GenerationRequest& request) {
  absl::StatusOr<EncodedSource> source = EncodeInput(*model_, rules_, request);
  if (!source.ok()) return source.status();
  return OfSource(*std::move(source));
}

absl::StatusOr<PlannedJob> JobMaker::OfSource(EncodedSource source) {
  PlannedJob job;
  job.source_tokens = static_cast<int>(source.ids.size());
  job.truncated = source.truncated;
  job.spans = std::move(source.spans);
  if (!model_->info().decoder_only) {
    job.source = std::move(source.ids);
    job.decoding = decoding_;
    return job;
  }
  absl::StatusOr<DecodingSpec> decoding = Resolve(source.ids);
  if (!decoding.ok()) return decoding.status();
  job.decoding = *std::move(decoding);
  return job;
}

absl::Status JobMaker::CheckOneText(const GenerationRequest& request, std::string_view who) const {
  if (merged_.num_return_sequences() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_return_sequences is ", merged_.num_return_sequences(), "; ", std::string(who), " allows 1"));
  }
  if (std::holds_alternative<std::monostate>(request.answer_prefix)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("answer_prefix is set; ", std::string(who), " allows none"));
}

absl::Status JobMaker::CheckWindows() const {
  if (!model_->info().decoder_only || merged_.has_max_new_tokens()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "max_new_tokens is not set; TRUNCATION_CHUNK needs it of a decoder-only model: max_length counts the window, "
      "which would leave an answer what happens to be left");
}

absl::Status JobMaker::CheckAlternatives(std::span<const PlannedJob> jobs) const {
  int64_t tokens = 0;
  for (const PlannedJob& job : jobs) {
    tokens = std::max(tokens, job.decoding.max_length - static_cast<int64_t>(job.decoding.prefix.size()));
  }
  const int hypotheses = jobs.front().decoding.num_return_sequences;
  const int64_t all = tokens * static_cast<int64_t>(jobs.size()) * hypotheses * top_logprobs_;
  if (all <= kMaxAlternatives) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("top_logprobs is ", top_logprobs_, ", which for ", jobs.size(),
                                                 " answers of ", hypotheses, " hypotheses of up to ", tokens,
                                                 " tokens is ", all, " alternatives; allowed are at most ",
                                                 kMaxAlternatives, " in one request"));
}

}  // namespace elserve
