#include "engine/loading.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/device_choice.h"
#include "engine/host_resources.h"
#include "engine/memory_plan.h"
#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/families/family.h"
#include "engine/salience.h"

namespace elserve {
namespace {

MemoryShape ShapeOf(const EngineOptions& options, const ModelConfig& config, AttentionForms forms) {
  return {.cross = config.decoder_only() ? std::nullopt : forms.cross,
          .self = forms.self,
          .layers = config.decoder.layers,
          .d = config.d_model,
          .heads = config.decoder.heads,
          .head_dim = config.decoder.head_dim,
          .int8 = options.int8_memory};
}

// Of products with int8 weights, beside bfloat16's: by AVX512-VNNI beside AVX512-BF16, as operations_bench has it.
constexpr double kInt8Speed = 1.7;

MemoryPlanInput PlanInput(const EngineOptions& options, const ModelConfig& config, const Backend& backend,
                          int64_t weight_bytes) {
  MemoryPlanInput in;
  in.cross_attention = !config.decoder_only();
  in.forms = options.attention;
  in.int8 = options.int8_memory;
  in.el = backend.Costs(ShapeOf(options, config, kAllEl));
  in.kv = backend.Costs(ShapeOf(options, config, kAllKv));
  in.d_model = config.d_model;
  in.layers = config.decoder.layers;
  in.heads = config.decoder.heads;
  in.head_dim = config.decoder.head_dim;
  in.ffn = config.decoder.ffn;
  in.vocab = config.vocab_size;
  in.bytes_per_weight = static_cast<int>(SizeOf(backend.state_type()));
  in.max_source_tokens = options.max_source_tokens;
  in.max_decoder_tokens = options.max_decoder_tokens;
  in.max_rows = options.max_rows;
  const std::optional<int64_t> device_bytes = backend.FreeBytes();
  const int64_t free_bytes = device_bytes ? *device_bytes : ReadHostMemory(options.host_root).free();
  in.budget_bytes = options.memory_bytes > 0
                        ? options.memory_bytes
                        : static_cast<int64_t>(options.memory_fraction *
                                               static_cast<double>(std::max<int64_t>(free_bytes - weight_bytes, 0)));
  in.encoder_memory_tokens = options.encoder_memory_tokens;
  in.decoder_memory_tokens = options.decoder_memory_tokens;
  in.figures = backend.Figures();
  if (options.precision == Precision::kInt8) in.figures.product_flops *= kInt8Speed;
  if (options.int8_memory) {
    in.figures.el_attention_flops = in.figures.int8_el_attention_flops;
    in.figures.el_self_attention_flops = in.figures.int8_el_self_attention_flops;
  }
  return in;
}

// Of a step: in every row an edit for each token of its hypothesis, its ends and its bad words. Rules that go by the
// source, or many at once, may need more in a row: then fewer such sequences are in flight.
int64_t MostEdits(const EngineOptions& options) {
  return static_cast<int64_t>(options.max_rows) * (options.max_decoder_tokens + kMaxEosIds + kMaxBadWords);
}

// Logits of whole rows take memory of the host: this much at most, and one row always.
constexpr int64_t kMostWholeLogits = int64_t{64} << 20;

int MostWholeRows(const EngineOptions& options, const ModelConfig& config) {
  const auto most = static_cast<int>(kMostWholeLogits / config.vocab_size);
  return std::max(1, std::min(options.max_rows, most));
}

int64_t SalientAtOnce(const EngineOptions& options, const ModelConfig& config) {
  return config.decoder_only() ? 0 : MostSalient(options.max_rows, config.decoder.heads, options.max_source_tokens);
}

// Prefixes share a step with encoding and decoding, so a slice of them is a quarter of what encoding may have. Where
// nothing is encoded they have all of it.
constexpr int kPrefillShare = 4;

StepLimits LimitsOf(const EngineOptions& options, const ModelConfig& config) {
  StepLimits limits;
  const bool encodes = !config.decoder_only();
  if (encodes) limits.encode_positions = std::max(options.encode_tokens_per_step, options.max_source_tokens);
  limits.prefill_positions = std::max(1, options.encode_tokens_per_step / (encodes ? kPrefillShare : 1));
  // A row of any length, or several.
  limits.prefill_history = std::max(options.max_decoder_tokens, 2 * limits.prefill_positions);
  limits.decode_positions = options.max_rows;
  limits.select_rows = options.max_rows;
  limits.whole_rows = MostWholeRows(options, config);
  limits.decoder_length = options.max_decoder_tokens;
  limits.source_length = options.max_source_tokens;
  limits.edits = MostEdits(options);
  limits.biases = SalientAtOnce(options, config) * config.decoder.heads * options.max_source_tokens;
  return limits;
}

ModelInfo InfoOf(const EngineOptions& options, const ModelConfig& config, const Backend& backend,
                 const MemoryPlan& plan) {
  ModelInfo info;
  info.family = config.model_type;
  info.d_model = config.d_model;
  info.encoder_layers = config.encoder.layers;
  info.decoder_layers = config.decoder.layers;
  info.encoder_heads = config.encoder.heads;
  info.decoder_heads = config.decoder.heads;
  info.vocab_size = config.vocab_size;
  info.decoder_only = config.decoder_only();
  info.max_source_tokens = options.max_source_tokens;
  info.max_decoder_tokens = options.max_decoder_tokens;
  info.device = backend.name();
  info.device_name = backend.device_name();
  info.precision = options.precision == Precision::kInt8        ? Precision::kInt8
                   : backend.state_type() == DataType::kFloat32 ? Precision::kFloat32
                                                                : Precision::kBFloat16;
  info.int8_keep = options.int8_keep;
  info.int8_memory = options.int8_memory;
  info.attention = plan.forms;
  info.attention_reason = plan.reason;
  info.approximation = options.approximation;
  info.ffn_top_k = options.ffn_top_k;
  info.favor_features = config.encoder.favor_features;
  info.capacity = {options.max_rows,
                   plan.encoder_pages,
                   plan.decoder_blocks,
                   MostEdits(options),
                   MostWholeRows(options, config),
                   SalientAtOnce(options, config)};
  info.page_tokens = kPageTokens;
  info.block_positions = kBlockCells;
  const MemoryCosts costs = backend.Costs(ShapeOf(options, config, plan.forms));
  info.bytes_per_encoder_token = costs.per_encoder_page / kPageTokens;
  info.bytes_per_decoder_token = costs.per_decoder_block / kBlockCells;
  info.memory_bytes = plan.bytes;
  info.encode_tokens_per_step = options.encode_tokens_per_step;
  info.encoder_cache = options.encoder_cache && !config.decoder_only();
  return info;
}

// One side's limit as the options have it.
struct Limit {
  const char* option;
  const char* side;
  int* tokens;  // 0: open
};

// A limit that is left open becomes what the positions allow, or the usual where they end nowhere.
absl::Status SetLimit(const Limit& limit, int usual, StackConfig* stack) {
  const int allowed = stack->max_positions;
  if (*limit.tokens == 0) *limit.tokens = usual > 0 ? std::min(usual, allowed) : allowed;
  stack->max_tokens = *limit.tokens;
  if (*limit.tokens >= 1 && *limit.tokens <= allowed) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      limit.option, " is ", *limit.tokens, "; the positions of the model's ", limit.side, " allow 1 to ", allowed,
      ", or 0 for ", usual > 0 ? absl::StrCat("the usual ", usual) : std::string("as many as they allow")));
}

// What is there for sources has no meaning in a decoder-only model.
absl::Status NoSource(const char* option, int64_t value) {
  if (value == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      option, " is ", value, "; the model is decoder-only and has no sources: leave it out. A prompt counts against ",
      option == std::string_view("max_source_tokens") ? "max_decoder_tokens" : "decoder_memory_tokens"));
}

absl::Status SetLimits(EngineOptions* options, ModelConfig* config) {
  absl::Status status;
  if (config->decoder_only()) {
    status = NoSource("max_source_tokens", options->max_source_tokens);
    status.Update(NoSource("encoder_memory_tokens", options->encoder_memory_tokens));
  } else {
    status = SetLimit({.option = "max_source_tokens", .side = "encoder", .tokens = &options->max_source_tokens},
                      config->usual_tokens, &config->encoder);
  }
  status.Update(SetLimit({.option = "max_decoder_tokens", .side = "decoder", .tokens = &options->max_decoder_tokens},
                         config->usual_tokens, &config->decoder));
  return status;
}

// Where the limits are from, before SetLimits fills those that are open.
std::string LimitsReason(const EngineOptions& options, const ModelConfig& config) {
  const std::string open =
      config.usual_tokens > 0 ? config.usual_tokens_reason : std::string("as many as the model's positions allow");
  const auto reason = [&open](int limit) { return limit == 0 ? open : std::string("as configured"); };
  const std::string source = reason(options.max_source_tokens), decoder = reason(options.max_decoder_tokens);
  return source == decoder || config.decoder_only() ? decoder
                                                    : absl::StrCat("source: ", source, "; decoder: ", decoder);
}

// Where the model, or what it runs on, has no place for what approximates.
absl::Status CheckApproximations(const EngineOptions& options, const ModelConfig& config, const Backend& backend) {
  const AttentionApproximation& attention = options.approximation;
  std::string option;
  if (attention.loses_weight()) option = absl::StrCat("attention_values is ", ToString(attention.values));
  if (attention.top_k > 0) option = absl::StrCat("attention_top_k is ", attention.top_k);
  if (!option.empty() && config.decoder_only()) {
    return absl::InvalidArgumentError(
        absl::StrCat(option, "; the model is decoder-only and has no sources to attend to: leave it out"));
  }
  const bool favor = config.encoder.favor_features > 0;
  if (favor && !option.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        option, "; the encoder's attention is FAVOR+, whose weights nothing can be left out of: leave the option out"));
  }
  if (favor && !backend.has_approximations()) {
    return absl::InvalidArgumentError(absl::StrCat("config.json has attention_type \"favor\", for which device: ",
                                                   backend.name(), " has no kernels; use device: cpu"));
  }
  const std::string ffn = options.ffn_top_k > 0 ? absl::StrCat("ffn_top_k is ", options.ffn_top_k) : "";
  const int widest = std::max(config.encoder.ffn, config.decoder.ffn);
  if (options.ffn_top_k > widest) {
    return absl::InvalidArgumentError(absl::StrCat(ffn, "; the model's feed-forward layers allow 1 to ", widest));
  }
  if (!ffn.empty() && (config.activation != Activation::kRelu || config.gated_feed_forward)) {
    return absl::InvalidArgumentError(absl::StrCat(
        ffn,
        "; it is for models whose feed-forward layers have an ungated ReLU, which this one's have not: leave it out"));
  }
  if (!(option.empty() && ffn.empty()) && !backend.has_approximations()) {
    return absl::InvalidArgumentError(absl::StrCat(option.empty() ? ffn : option, "; device: ", backend.name(),
                                                   " is exact: leave it out, or use device: cpu"));
  }
  return absl::OkStatus();
}

// Where the device has no integers, or nothing would be kept in them.
absl::Status CheckInt8(const EngineOptions& options, const ModelConfig& config, const Backend& backend) {
  const bool weights = options.precision == Precision::kInt8;
  if (!weights && !options.int8_memory) return absl::OkStatus();
  if (options.precision == Precision::kFloat32) {
    return absl::InvalidArgumentError(
        "memory_precision: int8 with precision: float32; it goes with precision: bfloat16 or int8");
  }
  if (!backend.has_int8()) {
    return absl::InvalidArgumentError(absl::StrCat(
        weights ? "precision" : "memory_precision",
        ": int8 needs a processor with VNNI, at the level of its instructions "
        "that is used; this is ",
        backend.name(), ", ", backend.device_name(), ": use ",
        weights ? "precision: bfloat16" : "memory_precision: auto", backend.name() == "cpu" ? "" : ", or device: cpu"));
  }
  if (!options.int8_memory) return absl::OkStatus();
  if (!options.approximation.exact()) {
    return absl::InvalidArgumentError(
        "memory_precision: int8 with attention_top_k or attention_values; attention that approximates its weights is "
        "over states as they are: leave one of them out");
  }
  if (options.attention &&
      (config.decoder_only() ? options.attention->self : options.attention->cross) == AttentionForm::kKv) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory_precision: int8 with attention: ", ToString(*options.attention),
                     "; it is of hidden states, which attention: el or auto keeps"));
  }
  return absl::OkStatus();
}

absl::Status NotNegative(const char* name, int value) {
  if (value >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, "; allowed is 1 or more, or 0 for the device's choice"));
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(EngineOptions options) {
  absl::Status valid = NotNegative("max_rows", options.max_rows);
  valid.Update(NotNegative("encode_tokens_per_step", options.encode_tokens_per_step));
  if (!valid.ok()) return valid;
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::Open(options.checkpoint);
  if (!checkpoint.ok()) return checkpoint.status();
  absl::StatusOr<ModelConfig> read = ReadModelConfig(**checkpoint);
  if (!read.ok()) return read.status();
  const std::string limits_reason = LimitsReason(options, *read);
  if (absl::Status status = SetLimits(&options, &*read); !status.ok()) return status;
  absl::StatusOr<SalientHeads> salience = ResolveSalience(options.salience, *read);
  if (!salience.ok()) return salience.status();
  const absl::StatusOr<ModelWeights> host = FindModelWeights(**checkpoint, *read);
  if (!host.ok()) return host.status();
  absl::StatusOr<ChosenDevice> device = ChooseDevice(options);
  if (!device.ok()) return device.status();

  if (absl::Status status = CheckApproximations(options, *read, *device->backend); !status.ok()) return status;
  if (absl::Status status = CheckInt8(options, *read, *device->backend); !status.ok()) return status;
  LoadedModel model;
  model.backend = std::move(device->backend);
  model.pool = options.pool;
  const StepSizes preferred = model.backend->PreferredSizes();
  if (options.max_rows == 0) options.max_rows = preferred.max_rows;
  if (options.encode_tokens_per_step == 0) options.encode_tokens_per_step = preferred.encode_tokens_per_step;
  model.config = std::make_unique<ModelConfig>(*std::move(read));
  const ModelConfig& config = *model.config;
  if (model.backend->state_type() == DataType::kBFloat16 &&
      (config.encoder.head_dim % 2 != 0 || config.decoder.head_dim % 2 != 0)) {
    const std::string encoder =
        config.decoder_only() ? "" : absl::StrCat("the encoder's have ", config.encoder.head_dim, ", ");
    return absl::InvalidArgumentError(absl::StrCat("precision: bfloat16 needs heads of even width; ", encoder,
                                                   "the decoder's ", config.decoder.head_dim,
                                                   "; use precision: float32"));
  }
  const bool int8 = options.precision == Precision::kInt8;
  const int64_t weight_bytes = PackedNumbers(*host) * (int8 ? 1 : SizeOf(model.backend->state_type()));
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(PlanInput(options, config, *model.backend, weight_bytes));
  if (!plan.ok()) return plan.status();
  model.weights = std::make_unique<PackedModel>(PackModel(config, *host,
                                                          {.forms = plan->forms,
                                                           .approximation = options.approximation,
                                                           .ffn_top_k = options.ffn_top_k,
                                                           .int8 = int8,
                                                           .int8_keep = options.int8_keep,
                                                           .int8_memory = options.int8_memory},
                                                          *model.backend));
  model.limits = LimitsOf(options, config);
  if (absl::Status status = model.backend->AllocateMemory(ShapeOf(options, config, plan->forms), plan->encoder_pages,
                                                          plan->decoder_blocks, model.limits);
      !status.ok()) {
    return status;
  }
  model.info = InfoOf(options, config, *model.backend, *plan);
  model.info.device_reason = device->reason;
  model.info.limits_reason = limits_reason;
  model.info.salience = *std::move(salience);
  model.info.parameters = host->parameters;
  model.info.weight_bytes = model.weights->bytes;
  return model;
}

}  // namespace elserve
