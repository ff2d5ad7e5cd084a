#include "server/requests/served_model.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/requests/text_parameters.h"

namespace elserve {
namespace {

constexpr char kTlDr[] = "\nTL;DR:";

v1::Model::Limits DescribeLimits(const ModelInfo& info, const ServedModelConfig& config) {
  v1::Model::Limits limits;
  limits.set_max_source_tokens(info.max_source_tokens);
  limits.set_max_decoder_tokens(info.max_decoder_tokens);
  limits.set_max_tokens_reason(info.limits_reason);
  limits.set_max_num_beams(kMaxBeams);
  limits.set_max_rows(static_cast<int>(info.capacity.rows));
  limits.set_encoder_memory_tokens(info.capacity.encoder_pages * info.page_tokens);
  limits.set_decoder_memory_tokens(info.capacity.decoder_blocks * info.block_positions);
  limits.set_memory_bytes(info.memory_bytes);
  limits.set_bytes_per_encoder_token(info.bytes_per_encoder_token);
  limits.set_bytes_per_decoder_token(info.bytes_per_decoder_token);
  limits.set_weight_bytes(info.weight_bytes);
  limits.set_max_queued_requests(config.max_queued_requests);
  limits.set_encode_tokens_per_step(info.encode_tokens_per_step);
  limits.set_encoder_cache(info.encoder_cache);
  limits.set_single_flight(config.single_flight);
  limits.set_answer_cache_bytes(config.answer_cache_bytes);
  return limits;
}

void DescribeApproximation(const ModelInfo& info, v1::Model::Approximation* approximation) {
  approximation->set_attention_top_k(info.approximation.top_k);
  approximation->set_attention_values(ToString(info.approximation.values));
  approximation->set_attention_threshold(info.approximation.threshold);
  approximation->set_ffn_top_k(info.ffn_top_k);
}

// What the format does not have stays unset.
void DescribeFormat(const QuestionFormat& format, v1::Model::Tasks::Questions* questions) {
  questions->set_format(std::string(NameOf(format.kind)));
  switch (format.kind) {
    case QuestionFormat::Kind::kHighlight:
      questions->set_prefix(format.prefix);
      questions->set_highlight(format.highlight);
      questions->set_spaces(std::string(NameOf(format.spaces)));
      break;
    case QuestionFormat::Kind::kTemplate:
      questions->set_template_(format.pattern.text());
      break;
    case QuestionFormat::Kind::kEndToEnd:
      questions->set_prefix(format.prefix);
      questions->set_suffix(format.suffix);
      questions->set_separator(format.separator);
      if (format.item) questions->set_item(format.item->text());
      break;
  }
}

// What an output is split at has to be in it: texts leave out special tokens, the unknown one among them.
absl::Status CheckWritten(const Tokenizer& tokenizer, std::string_view key, std::string_view value,
                          std::string_view text) {
  const absl::StatusOr<Encoding> encoding = tokenizer.Encode(text, {.add_special_tokens = false, .is_answer = true});
  if (!encoding.ok()) return encoding.status();
  const auto special = std::find_if(encoding->ids.begin(), encoding->ids.end(),
                                    [&tokenizer](int32_t id) { return tokenizer.is_special(id); });
  if (special == encoding->ids.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "tasks.questions.%s is \"%s\", which has the special token %s; allowed is what the texts of answers can have",
      key, value, tokenizer.TokenText(*special).value_or("")));
}

absl::Status CheckFormat(const QuestionFormat& format, const Tokenizer& tokenizer) {
  if (format.kind != QuestionFormat::Kind::kEndToEnd) return absl::OkStatus();
  absl::Status status = CheckWritten(tokenizer, "separator", format.separator, format.separator);
  if (!status.ok() || !format.item) return status;
  constexpr std::array<std::string_view, 2> kNothing = {"", ""};
  return CheckWritten(tokenizer, "item", format.item->text(), format.item->Fill(kNothing).text);
}

void DescribeChunk(const ChunkDefaults& defaults, v1::Model::Chunk* chunk) {
  chunk->set_window_tokens(defaults.window_tokens);
  chunk->set_overlap_tokens(defaults.overlap_tokens);
  chunk->set_join(defaults.join);
  chunk->set_max_rounds(defaults.max_rounds);
  chunk->set_max_document_bytes(defaults.max_document_bytes);
}

void DescribeSalience(const SalientHeads& salient, v1::Model::SalientHeads* out) {
  out->mutable_layers()->Add(salient.layers.begin(), salient.layers.end());
  out->mutable_heads()->Add(salient.heads.begin(), salient.heads.end());
}

// int8 weights have bfloat16 states.
Precision MemoryPrecision(const ModelInfo& info) {
  if (info.int8_memory) return Precision::kInt8;
  return info.precision == Precision::kInt8 ? Precision::kBFloat16 : info.precision;
}

}  // namespace

EngineOptions ToEngineOptions(const ServedModelConfig& config, ThreadPool* pool) {
  return {.checkpoint = config.path,
          .device = config.device,
          .device_index = config.device_index,
          .precision = config.precision,
          .int8_keep = config.int8_keep,
          .int8_memory = config.int8_memory,
          .attention = config.attention,
          .approximation = config.approximation,
          .ffn_top_k = config.ffn_top_k,
          .memory_bytes = config.memory_bytes,
          .memory_fraction = config.memory_fraction,
          .encoder_memory_tokens = config.encoder_memory_tokens,
          .decoder_memory_tokens = config.decoder_memory_tokens,
          .max_source_tokens = config.max_source_tokens,
          .max_decoder_tokens = config.max_decoder_tokens,
          .max_rows = config.max_rows,
          .encode_tokens_per_step = config.encode_tokens_per_step,
          .encoder_cache = config.encoder_cache,
          .salience = config.salience,
          .pool = pool,
          .host_root = {}};
}

absl::StatusOr<std::shared_ptr<const ServedModel>> ServedModel::Create(ServedModelConfig config, const ModelInfo& info,
                                                                       std::shared_ptr<Inbox> inbox) {
  std::shared_ptr<ServedModel> model(new ServedModel(std::move(config), info, std::move(inbox)));
  if (const absl::Status read = model->Read(); !read.ok()) {
    return absl::Status(read.code(), absl::StrCat("model ", model->name(), ": ", read.message()));
  }
  return model;
}

ServedModel::ServedModel(ServedModelConfig config, const ModelInfo& info, std::shared_ptr<Inbox> inbox)
    : config_(std::move(config)), info_(info), inbox_(std::move(inbox)) {}

absl::Status ServedModel::Read() {
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(config_.path);
  if (!tokenizer.ok()) return tokenizer.status();
  tokenizer_ = *std::move(tokenizer);
  const absl::StatusOr<v1::DecodingParameters> checkpoint = LoadCheckpointParameters(config_.path, config_.defaults);
  if (!checkpoint.ok()) return checkpoint.status();
  return MergeDefaultsAndTasks(*checkpoint);
}

std::shared_ptr<const TokenBytes> ServedModel::token_bytes() const {
  std::call_once(token_bytes_made_, [this] {
    auto texts = std::make_shared<TokenBytes>();
    for (const std::string& text : tokenizer_->TokenBytes()) texts->Add(text);
    token_bytes_ = std::move(texts);
  });
  return token_bytes_;
}

absl::StatusOr<CheckpointTask> ServedModel::ReadSummarizeTask() const {
  v1::DecodingParameters overrides = config_.defaults;
  overrides.MergeFrom(config_.summarize->defaults);  // which are set is all that counts
  return LoadCheckpointTask(config_.path, "summarization", overrides);
}

absl::Status ServedModel::MergeDefaultsAndTasks(const v1::DecodingParameters& checkpoint) {
  DefaultLayers layers;
  layers.checkpoint = checkpoint;
  if (info_.decoder_only) {
    // What the checkpoint calls the beginning of a sequence is not put before a prompt.
    layers.checkpoint.clear_decoder_start_token_id();
    if (config_.defaults.has_decoder_start_token_id() ||
        (config_.summarize && config_.summarize->defaults.has_decoder_start_token_id())) {
      return absl::InvalidArgumentError(
          "defaults set decoder_start_token_id; the model is decoder-only: its answers go on from the prompt");
    }
    if (config_.questions) {
      return absl::InvalidArgumentError(
          "tasks.questions is set; the model is decoder-only, and questions need a model with an encoder");
    }
  }
  layers.configuration = config_.defaults;
  const v1::DecodingParameters own = MergeDefaults(layers);
  if (own.has_decoder_start_token_id()) decoder_start_ = own.decoder_start_token_id();
  absl::StatusOr<v1::DecodingParameters> language = LanguageParameters(LanguagesOf("", ""));
  if (!language.ok()) return language.status();
  layers.configuration_language = *std::move(language);
  defaults_ = MergeDefaults(layers);
  if (config_.summarize) {
    absl::StatusOr<CheckpointTask> own = ReadSummarizeTask();
    if (!own.ok()) return own.status();
    layers.checkpoint_task = own->parameters;
    layers.configuration_task = config_.summarize->defaults;
    summarize_ = {.prompt = {.prefix = config_.summarize->prefix.value_or(own->prefix),
                             .suffix = config_.summarize->suffix.value_or(info_.decoder_only ? kTlDr : "")},
                  .defaults = MergeDefaults(layers)};
  }
  if (config_.questions) {
    layers.checkpoint_task.Clear();
    layers.configuration_task = config_.questions->defaults;
    if (absl::Status usable = CheckFormat(config_.questions->format, *tokenizer_); !usable.ok()) return usable;
    // What stands around the context is the format's; truncation leaves its suffix.
    questions_ = {.prompt = {.prefix = {}, .suffix = config_.questions->format.suffix},
                  .defaults = MergeDefaults(layers)};
  }
  absl::Status valid = SettleDefaults(config_.defaults, &defaults_);
  if (summarize_) valid.Update(SettleDefaults(config_.summarize->defaults, &summarize_->defaults));
  if (questions_) valid.Update(SettleDefaults(config_.questions->defaults, &questions_->defaults));
  return valid;
}

absl::Status ServedModel::SettleDefaults(const v1::DecodingParameters& configured,
                                         v1::DecodingParameters* merged) const {
  const ModelLimits bounds = limits();
  if (absl::Status valid = ValidateParameters(*merged, &bounds); !valid.ok()) return valid;
  if (absl::Status valid = CheckSampling(configured, *merged); !valid.ok()) return valid;
  if (absl::Status valid = CheckTogether(*merged, bounds); !valid.ok()) return valid;
  return TakeBadWords(*tokenizer_, merged);
}

TextLanguages ServedModel::LanguagesOf(std::string_view source, std::string_view target) const {
  return {.source = std::string(source.empty() ? config_.source_language : source),
          .target = std::string(target.empty() ? config_.target_language : target)};
}

absl::StatusOr<v1::DecodingParameters> ServedModel::LanguageParameters(const TextLanguages& languages) const {
  return elserve::LanguageParameters(*tokenizer_, decoder_start_, languages);
}

size_t ServedModel::KeptTokens(size_t length, const TextLanguages& languages) const {
  const size_t special = tokenizer_->FrameOf(languages.source, languages.target)->size();
  return length > special ? length - special : 0;
}

v1::Model::Tasks ServedModel::DescribeTasks() const {
  v1::Model::Tasks tasks;
  if (summarize_) {
    tasks.mutable_summarize()->set_prefix(summarize_->prompt.prefix);
    tasks.mutable_summarize()->set_suffix(summarize_->prompt.suffix);
    *tasks.mutable_summarize()->mutable_default_parameters() = summarize_->defaults;
  }
  if (questions_) {
    DescribeFormat(config_.questions->format, tasks.mutable_questions());
    *tasks.mutable_questions()->mutable_default_parameters() = questions_->defaults;
  }
  return tasks;
}

v1::Model ServedModel::Describe() const {
  v1::Model model;
  model.set_name(config_.name);
  model.set_family(info_.family);
  model.set_parameter_count(info_.parameters);
  model.set_d_model(info_.d_model);
  model.set_encoder_layers(info_.encoder_layers);
  model.set_decoder_layers(info_.decoder_layers);
  model.set_encoder_heads(info_.encoder_heads);
  model.set_decoder_heads(info_.decoder_heads);
  model.set_vocab_size(info_.vocab_size);
  model.set_decoder_only(info_.decoder_only);
  model.set_device(info_.device);
  model.set_device_name(info_.device_name);
  model.set_device_reason(info_.device_reason);
  model.set_precision(ToString(info_.precision));
  for (const auto& [kept, name] : {std::pair{info_.int8_keep.head, "head"},
                                   {info_.int8_keep.first_layer, "first_layer"},
                                   {info_.int8_keep.last_layer, "last_layer"}}) {
    if (kept) model.add_int8_keep(name);
  }
  model.set_memory_precision(ToString(MemoryPrecision(info_)));
  model.set_attention(ToString(info_.attention));
  model.set_attention_reason(info_.attention_reason);
  if (!info_.approximation.exact() || info_.ffn_top_k > 0) DescribeApproximation(info_, model.mutable_approximation());
  model.set_favor_features(info_.favor_features);
  *model.mutable_limits() = DescribeLimits(info_, config_);
  *model.mutable_default_parameters() = defaults_;
  *model.mutable_tasks() = DescribeTasks();
  DescribeChunk(config_.chunk, model.mutable_chunk());
  if (!info_.decoder_only) DescribeSalience(info_.salience, model.mutable_salience());
  *model.mutable_languages() = DescribeLanguages(*tokenizer_, decoder_start_, LanguagesOf("", ""));
  return model;
}

}  // namespace elserve
