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

namespace elserve {
namespace {

MemoryShape ShapeOf(const ModelConfig& config, AttentionForms forms) {
  return {.cross = forms.cross,
          .self = forms.self,
          .layers = config.decoder.layers,
          .d = config.d_model,
          .heads = config.decoder.heads,
          .head_dim = config.decoder.head_dim};
}

MemoryPlanInput PlanInput(const EngineOptions& options, const ModelConfig& config, const Backend& backend,
                          int64_t weight_bytes) {
  MemoryPlanInput in;
  in.forms = options.attention;
  in.el = backend.Costs(ShapeOf(config, kAllEl));
  in.kv = backend.Costs(ShapeOf(config, kAllKv));
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
  return in;
}

// Of a step: what no-repeat rules can ban in every row, its EOS ids and its bad words.
int64_t MostEdits(const EngineOptions& options) {
  return static_cast<int64_t>(options.max_rows) * (options.max_decoder_tokens + kMaxEosIds + kMaxBadWords);
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
  info.max_source_tokens = options.max_source_tokens;
  info.max_decoder_tokens = options.max_decoder_tokens;
  info.device = backend.name();
  info.device_name = backend.device_name();
  info.precision = backend.state_type() == DataType::kFloat32 ? Precision::kFloat32 : Precision::kBFloat16;
  info.attention = plan.forms;
  info.attention_reason = plan.reason;
  info.capacity = {options.max_rows, plan.encoder_pages, plan.decoder_blocks, MostEdits(options)};
  info.page_tokens = kPageTokens;
  info.block_positions = kBlockCells;
  const MemoryCosts costs = backend.Costs(ShapeOf(config, plan.forms));
  info.bytes_per_encoder_token = costs.per_encoder_page / kPageTokens;
  info.bytes_per_decoder_token = costs.per_decoder_block / kBlockCells;
  info.memory_bytes = plan.bytes;
  info.encode_tokens_per_step = options.encode_tokens_per_step;
  return info;
}

// A limit that is left open becomes what the positions allow.
absl::Status SetLimit(const char* name, const char* side, int allowed, int* limit) {
  if (*limit == 0) *limit = allowed;
  if (*limit >= 1 && *limit <= allowed) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", *limit, "; the positions of the model's ", side,
                                                 " allow 1 to ", allowed, ", or 0 for as many as they allow"));
}

absl::Status SetLimits(const ModelConfig& config, EngineOptions* options) {
  absl::Status status =
      SetLimit("max_source_tokens", "encoder", config.encoder.max_positions, &options->max_source_tokens);
  status.Update(SetLimit("max_decoder_tokens", "decoder", config.decoder.max_positions, &options->max_decoder_tokens));
  return status;
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
  absl::StatusOr<HostModel> host = LoadHostModel(**checkpoint);
  if (!host.ok()) return host.status();
  if (absl::Status status = SetLimits(host->config, &options); !status.ok()) return status;
  absl::StatusOr<ChosenDevice> device = ChooseDevice(options);
  if (!device.ok()) return device.status();

  LoadedModel model;
  model.backend = std::move(device->backend);
  const StepSizes preferred = model.backend->PreferredSizes();
  if (options.max_rows == 0) options.max_rows = preferred.max_rows;
  if (options.encode_tokens_per_step == 0) options.encode_tokens_per_step = preferred.encode_tokens_per_step;
  model.config = std::make_unique<ModelConfig>(std::move(host->config));
  const ModelConfig& config = *model.config;
  if (model.backend->state_type() == DataType::kBFloat16 &&
      (config.encoder.head_dim % 2 != 0 || config.decoder.head_dim % 2 != 0)) {
    return absl::InvalidArgumentError(absl::StrCat("precision: bfloat16 needs heads of even width; the encoder's have ",
                                                   config.encoder.head_dim, ", the decoder's ", config.decoder.head_dim,
                                                   "; use precision: float32"));
  }
  const int64_t weight_bytes = PackedNumbers(host->weights) * SizeOf(model.backend->state_type());
  const absl::StatusOr<MemoryPlan> plan = PlanMemory(PlanInput(options, config, *model.backend, weight_bytes));
  if (!plan.ok()) return plan.status();
  model.weights = std::make_unique<PackedModel>(PackModel(config, host->weights, plan->forms, *model.backend));
  model.limits = {.encode_positions = std::max(options.encode_tokens_per_step, options.max_source_tokens),
                  .decode_positions = options.max_rows,
                  .select_rows = options.max_rows,
                  .decoder_length = options.max_decoder_tokens,
                  .source_length = options.max_source_tokens,
                  .edits = MostEdits(options)};
  if (absl::Status status = model.backend->AllocateMemory(ShapeOf(config, plan->forms), plan->encoder_pages,
                                                          plan->decoder_blocks, model.limits);
      !status.ok()) {
    return status;
  }
  model.info = InfoOf(options, config, *model.backend, *plan);
  model.info.device_reason = device->reason;
  model.info.parameters = host->weights.parameters;
  model.info.weight_bytes = model.weights->bytes;
  return model;
}

}  // namespace elserve
