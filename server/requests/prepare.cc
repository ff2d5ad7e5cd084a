#include "server/requests/prepare.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/parameters/parameters.h"
#include "server/requests/answer_tokens.h"
#include "server/requests/prepare_source.h"
#include "server/requests/request_checks.h"
#include "server/requests/text_parameters.h"
#include "server/text/prompts.h"

namespace elserve {
namespace {

absl::Status NoTask(const ServedModel& model, const std::string& task) {
  return absl::InvalidArgumentError(absl::StrCat("model is \"", model.name(),
                                                 "\", which is not configured for the task ", task,
                                                 " (models[].tasks of the server's configuration)"));
}

// What the model does for requests of this kind.
absl::StatusOr<ServedTask> TaskOf(const ServedModel& model, const v1::SummarizeRequest&) {
  if (!model.summarize()) return NoTask(model, "summarize");
  return *model.summarize();
}
absl::StatusOr<ServedTask> TaskOf(const ServedModel& model, const v1::GenerateQuestionsRequest&) {
  if (model.info().decoder_only) {
    return absl::InvalidArgumentError(absl::StrCat(
        "model is \"", model.name(), "\", which is decoder-only; GenerateQuestions needs a model with an encoder"));
  }
  if (!model.questions()) return NoTask(model, "questions");
  return *model.questions();
}
absl::StatusOr<ServedTask> TaskOf(const ServedModel& model, const v1::GenerateRequest&) {
  return ServedTask{.prompt = {}, .defaults = model.defaults()};
}

// For a request that draws and does not say from where.
uint64_t DrawSeed() {
  std::random_device entropy;
  return uint64_t{entropy()} << 32 | entropy();
}

int JobsOf(const v1::GenerateQuestionsRequest& request) { return request.answers_size(); }
template <typename Request>
int JobsOf(const Request&) {
  return 1;
}

// decoder_input_ids as the request has them; none: empty. One more token has to fit behind them.
template <typename Request>
absl::StatusOr<std::vector<int32_t>> AnswerPrefix(const ServedModel& model, const Request& request,
                                                  const v1::DecodingParameters& merged) {
  const int room = model.info().max_decoder_tokens - 1;
  if (request.has_prefix_text()) {
    absl::StatusOr<std::vector<int32_t>> tokens = BeforeAnswer(model.tokenizer(), merged);
    if (!tokens.ok()) return tokens.status();
    const absl::StatusOr<std::vector<int32_t>> text =
        AnswerTextIds(model, request.prefix_text(), "prefix_text", room - static_cast<int>(tokens->size()));
    if (!text.ok()) return text.status();
    tokens->insert(tokens->end(), text->begin(), text->end());
    return tokens;
  }
  if (!request.has_prefix_token_ids()) return std::vector<int32_t>();
  return AnswerIds(model, request.prefix_token_ids(), "prefix_token_ids", room);
}

// What of a request outlives its message's checks until its source is tokenized.
struct RequestRules {
  SourceRules source;
  v1::DecodingParameters merged;
  int jobs = 1;
  int top_logprobs = 0;
  bool stream = false;
};

// They are kept until the last job has ended.
absl::Status CheckAlternatives(const RequestRules& rules, const DecodingSpec& decoding) {
  if (rules.top_logprobs > 0 && decoding.remove_invalid_values) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_logprobs is ", rules.top_logprobs,
                     "; allowed is 0 with remove_invalid_values: logits that are not finite have "
                     "no log-probabilities"));
  }
  const int64_t tokens = decoding.max_length - static_cast<int64_t>(decoding.prefix.size());
  const int64_t all = tokens * rules.jobs * decoding.num_return_sequences * rules.top_logprobs;
  if (all <= kMaxAlternatives) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("top_logprobs is ", rules.top_logprobs, ", which for ", rules.jobs,
                                                 " answers of ", decoding.num_return_sequences, " hypotheses of up to ",
                                                 tokens, " tokens is ", all, " alternatives; allowed are at most ",
                                                 kMaxAlternatives, " in one request"));
}

// What parameters and prefix (of a decoder-only model its prompt) come to.
absl::Status Settle(const RequestRules& rules, std::span<const int32_t> prefix, PreparedCall* call) {
  absl::StatusOr<ResolvedParameters> resolved = ResolveParameters(rules.merged, call->model->limits(), prefix);
  if (!resolved.ok()) return resolved.status();
  if (rules.stream && resolved->spec.num_return_sequences != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_return_sequences is ", resolved->spec.num_return_sequences, "; a stream allows 1"));
  }
  call->decoding = std::move(resolved->spec);
  call->decoding.top_logprobs = rules.top_logprobs;
  absl::StatusOr<std::shared_ptr<const StopStrings>> stop = StopStringsOf(*call->model, rules.merged);
  if (!stop.ok()) return stop.status();
  call->decoding.stop_strings = *std::move(stop);
  call->effective = std::move(resolved->effective);
  if (absl::Status status = CheckAlternatives(rules, call->decoding); !status.ok()) return status;
  // A tokenizer with more tokens than the checkpoint has embeddings.
  return CheckIds(call->decoding.prefix, "the answer's prefix: token ", *call->model);
}

// A prompt shares the decoder's positions with the answer: at least one token, or as many as the request wants.
void LimitPrompt(const ServedModel& model, RequestRules* rules) {
  const v1::DecodingParameters& merged = rules->merged;
  const int positions = model.info().max_decoder_tokens;
  if (merged.has_max_new_tokens()) {
    rules->source.most_tokens = static_cast<size_t>(std::max(0, positions - merged.max_new_tokens()));
    rules->source.why =
        absl::StrCat(" before max_new_tokens, ", merged.max_new_tokens(), ", of max_decoder_tokens, ", positions);
  } else if (merged.has_max_length()) {
    rules->source.most_tokens = static_cast<size_t>(std::max(0, std::min(merged.max_length(), positions) - 1));
    rules->source.why = absl::StrCat(" before one more of max_length, ", merged.max_length());
  } else {
    rules->source.most_tokens = static_cast<size_t>(positions - 1);
    rules->source.why = absl::StrCat(" before one more of max_decoder_tokens, ", positions);
  }
}

// Gives the call a job with its source, or with its prompt.
absl::Status AddJob(const RequestRules& rules, PreparedCall::Job job, PreparedCall* call) {
  if (call->model->info().decoder_only) {
    if (absl::Status status = Settle(rules, job.source, call); !status.ok()) return status;
    job.source.clear();
  }
  call->jobs.push_back(std::move(job));
  return absl::OkStatus();
}

// What all three requests have, under the same names: everything but the source.
template <typename Request>
absl::StatusOr<PreparedCall> PrepareCommon(const ModelRegistry& models, const Request& request, bool stream,
                                           RequestRules* rules) {
  absl::StatusOr<std::string> request_id = RequestId(request.request_id());
  if (!request_id.ok()) return request_id.status();
  absl::StatusOr<std::shared_ptr<const ServedModel>> model = models.Find(request.model());
  if (!model.ok()) return model.status();
  absl::StatusOr<ServedTask> task = TaskOf(**model, request);
  if (!task.ok()) return task.status();
  if (const absl::Status status = CheckTruncation(request.truncation()); !status.ok()) return status;
  if (const absl::Status status = CheckOnDeadline(request.on_deadline()); !status.ok()) return status;
  if (request.top_logprobs() < 0 || request.top_logprobs() > kMaxTopLogprobs) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_logprobs is ", request.top_logprobs(), "; allowed are 0 to ", kMaxTopLogprobs));
  }

  const ModelLimits limits = (*model)->limits();
  if (const absl::Status status = ValidateParameters(request.parameters(), &limits); !status.ok()) return status;
  const TextLanguages languages = (*model)->LanguagesOf(request.source_language(), request.target_language());
  const absl::StatusOr<v1::DecodingParameters> language = (*model)->LanguageParameters(languages);
  if (!language.ok()) return language.status();
  // The defaults have the configuration's language, under parameters that win over it.
  if (!request.target_language().empty()) MergeParameters(*language, &task->defaults);
  MergeParameters(request.parameters(), &task->defaults);
  if (const absl::Status status = CheckSampling(request.parameters(), task->defaults); !status.ok()) return status;
  if (absl::Status status = TakeBadWords((*model)->tokenizer(), &task->defaults); !status.ok()) return status;
  if (task->defaults.do_sample() && !task->defaults.has_seed()) task->defaults.set_seed(DrawSeed());
  rules->source.prompt = std::move(task->prompt);
  rules->source.languages = languages;
  rules->source.truncation = request.truncation();
  rules->merged = std::move(task->defaults);
  rules->jobs = JobsOf(request);
  rules->top_logprobs = request.top_logprobs();
  rules->stream = stream;
  PreparedCall call;
  call.model = *std::move(model);
  call.request_id = *std::move(request_id);
  call.token_logprobs = request.token_logprobs();
  call.best_so_far = request.on_deadline() == v1::ON_DEADLINE_BEST_SO_FAR;
  if (call.model->info().decoder_only) {
    if (request.answer_prefix_case() != Request::ANSWER_PREFIX_NOT_SET) {
      return absl::InvalidArgumentError(
          "answer_prefix is set; the model is decoder-only: what its answer begins with is the end of the prompt");
    }
    LimitPrompt(*call.model, rules);
    return call;
  }
  rules->source.most_tokens = static_cast<size_t>(call.model->info().max_source_tokens);
  const absl::StatusOr<std::vector<int32_t>> prefix = AnswerPrefix(*call.model, request, rules->merged);
  if (!prefix.ok()) return prefix.status();
  if (const absl::Status status = Settle(*rules, *prefix, &call); !status.ok()) return status;
  call.answer_prefix.assign(call.decoding.prefix.begin() + 1, call.decoding.prefix.end());
  return call;
}

absl::StatusOr<Span> FindSpan(const v1::Answer& answer, std::string_view context, const std::string& field) {
  if (!answer.has_span()) {
    if (!answer.text().empty()) return FindAnswer(context, answer.text(), absl::StrCat(field, ".text"));
    return absl::InvalidArgumentError(absl::StrCat(field, " is empty; it needs text or span"));
  }
  const Span span{.begin = answer.span().begin(), .end = answer.span().end()};
  const absl::Status status = CheckSpan(context, span, absl::StrCat(field, ".span"));
  if (!status.ok()) return status;
  const std::string_view held =
      context.substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.end - span.begin));
  if (!answer.text().empty() && answer.text() != held) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".text is not what ", field, ".span holds, bytes ",
                                                   span.begin, " to ", span.end, " of the context"));
  }
  return span;
}

// The marked answer has to be among the tokens that truncation leaves: the prompt up to its end has to fit, or from its
// beginning on.
absl::Status CheckAnswerKept(const ServedModel& model, const SourceRules& rules, std::string_view context, Span span,
                             const std::string& field) {
  const bool left = model.tokenizer().truncates_left();
  const auto begin = static_cast<size_t>(left ? span.begin : 0);
  const auto end = left ? context.size() : static_cast<size_t>(span.end);
  TaskPrompt part_task = rules.prompt;
  if (left) part_task.prefix.clear();
  const std::string part = HighlightPrompt(
      part_task, context.substr(begin, end - begin),
      {.begin = span.begin - static_cast<int64_t>(begin), .end = span.end - static_cast<int64_t>(begin)});
  const size_t kept = model.KeptTokens(rules.most_tokens, rules.languages);
  const absl::StatusOr<Encoding> encoding =
      model.tokenizer().Encode(part, {.add_special_tokens = false, .max_tokens = kept});
  if (!encoding.ok()) return encoding.status();
  if (!encoding->too_long) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s is not within the %s %d tokens of the prompt, which are what truncation leaves; the answer has to stay "
      "within them",
      field, left ? "last" : "first", kept));
}

absl::Status CheckAnswers(const v1::GenerateQuestionsRequest& request, const TaskPrompt& task) {
  if (request.answers().empty()) {
    return absl::InvalidArgumentError("answers is empty; the highlight format needs at least one answer");
  }
  if (request.answers_size() > kMaxAnswers) {
    return absl::InvalidArgumentError(
        absl::StrCat("answers has ", request.answers_size(), " entries; allowed are 1 to ", kMaxAnswers));
  }
  const size_t prompt = task.prefix.size() + request.context().size();
  if (prompt > kMaxPromptBytes / static_cast<size_t>(request.answers_size())) {
    return absl::InvalidArgumentError(absl::StrCat("context has ", request.context().size(), " bytes and answers ",
                                                   request.answers_size(), " entries; allowed are ", kMaxPromptBytes,
                                                   " bytes of prompts in one request"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::SummarizeRequest& request, bool stream) {
  RequestRules rules;
  absl::StatusOr<PreparedCall> call = PrepareCommon(models, request, stream, &rules);
  if (!call.ok()) return call.status();
  if (const absl::Status status = CheckText(request.document(), "document"); !status.ok()) return status;
  absl::StatusOr<PreparedCall::Job> job =
      PrepareText(*call->model, rules.source, SummaryPrompt(rules.source.prompt, request.document()), "document",
                  /*suffix=*/!rules.source.prompt.suffix.empty());
  if (!job.ok()) return job.status();
  if (const absl::Status status = AddJob(rules, *std::move(job), &*call); !status.ok()) return status;
  return call;
}

absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::GenerateRequest& request, bool stream) {
  RequestRules rules;
  absl::StatusOr<PreparedCall> call = PrepareCommon(models, request, stream, &rules);
  if (!call.ok()) return call.status();
  absl::StatusOr<PreparedCall::Job> job = PrepareInput(*call->model, rules.source, request);
  if (!job.ok()) return job.status();
  if (const absl::Status status = AddJob(rules, *std::move(job), &*call); !status.ok()) return status;
  return call;
}

absl::StatusOr<PreparedCall> Prepare(const ModelRegistry& models, const v1::GenerateQuestionsRequest& request,
                                     bool stream) {
  RequestRules rules;
  absl::StatusOr<PreparedCall> call = PrepareCommon(models, request, stream, &rules);
  if (!call.ok()) return call.status();
  const ServedModel& model = *call->model;
  const std::string& context = request.context();
  if (const absl::Status status = CheckText(context, "context"); !status.ok()) return status;
  if (const absl::Status status = CheckAnswers(request, rules.source.prompt); !status.ok()) return status;
  // All answers are looked at before the first is tokenized.
  for (int i = 0; i < request.answers_size(); ++i) {
    const absl::StatusOr<Span> span = FindSpan(request.answers(i), context, absl::StrCat("answers[", i, "]"));
    if (!span.ok()) return span.status();
    const auto begin = static_cast<size_t>(span->begin);
    call->questions.push_back(
        {.answer_text = context.substr(begin, static_cast<size_t>(span->end) - begin), .answer_span = *span});
  }
  for (size_t i = 0; i < call->questions.size(); ++i) {
    const Span span = call->questions[i].answer_span;
    absl::StatusOr<PreparedCall::Job> job =
        PrepareText(model, rules.source, HighlightPrompt(rules.source.prompt, context, span), "context");
    if (!job.ok()) return job.status();
    if (job->truncated) {
      const absl::Status kept = CheckAnswerKept(model, rules.source, context, span, absl::StrCat("answers[", i, "]"));
      if (!kept.ok()) return kept;
    }
    call->jobs.push_back(*std::move(job));
  }
  return call;
}

}  // namespace elserve
