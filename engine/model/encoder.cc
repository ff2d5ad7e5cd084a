#include "engine/model/encoder.h"

#include "engine/model/allocate.h"

namespace elserve {
namespace {

constexpr Phase kPhase = Phase::kEncode;

}  // namespace

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Create(const ModelConfig& config, const PackedModel& weights,
                                                         AttentionForm memory, int positions, Backend& backend) {
  std::unique_ptr<Encoder> encoder(new Encoder(config, weights, memory, backend));
  const int64_t inner = static_cast<int64_t>(config.encoder.heads) * config.encoder.head_dim;
  const int64_t keys_and_values = 2 * static_cast<int64_t>(config.decoder.heads) * config.decoder.head_dim;
  const absl::Status status =
      Allocate(backend, positions,
               {{&encoder->residual_, config.d_model, Storage::kResidual},
                {&encoder->state_, config.d_model, Storage::kState},
                {&encoder->qkv_, 3 * inner, Storage::kState},
                {&encoder->context_, inner, Storage::kState},
                {&encoder->hidden_, config.encoder.ffn, Storage::kState},
                {&encoder->kv_, memory == AttentionForm::kKv ? keys_and_values : 0, Storage::kState}});
  if (!status.ok()) return status;
  return encoder;
}

void Encoder::Norm(const PackedNorm& norm) {
  backend_.Norm({.phase = kPhase,
                 .input = residual_,
                 .weight = norm.weight.get(),
                 .residual = norm.to_residual ? &residual_ : nullptr,
                 .state = state_});
}

void Encoder::Embed() {
  const PackedEmbedding& e = weights_.encoder_embedding;
  backend_.Embed({.phase = kPhase,
                  .tokens = weights_.encoder_tokens(),
                  .scale = config_.embedding_scale,
                  .positions = e.positions.get(),
                  .position_offset = config_.position_offset,
                  .output = residual_});
  for (const PackedNorm& norm : e.norms) Norm(norm);
}

void Encoder::RunLayer(int layer) {
  const PackedEncoderLayer& w = weights_.encoder[layer];
  backend_.Linear({.phase = kPhase, .input = state_, .weight = w.qkv.get(), .output = qkv_});
  backend_.EncoderAttention({.qkv = qkv_,
                             .heads = config_.encoder.heads,
                             .head_dim = config_.encoder.head_dim,
                             .output = context_,
                             .bias = weights_.encoder_bias.view()});
  backend_.Linear(
      {.phase = kPhase, .input = context_, .weight = w.o.get(), .residual = &residual_, .output = residual_});
  Norm(w.norm);

  const PackedFeedForward& f = w.feed_forward;
  backend_.Linear(
      {.phase = kPhase, .input = state_, .weight = f.fc1.get(), .activation = config_.activation, .output = hidden_});
  backend_.Linear(
      {.phase = kPhase, .input = hidden_, .weight = f.fc2.get(), .residual = &residual_, .output = residual_});
  Norm(f.norm);
}

void Encoder::Store() {
  if (memory_ == AttentionForm::kEl) {
    backend_.StoreEncoder({.layer = 0, .states = state_});
    return;
  }
  for (int layer = 0; layer < static_cast<int>(weights_.decoder.size()); ++layer) {
    const PackedWeight* kv = weights_.decoder[layer].cross_attention.kv.get();
    backend_.Linear({.phase = kPhase, .input = state_, .weight = kv, .output = kv_});
    backend_.StoreEncoder({.layer = layer, .states = kv_});
  }
}

}  // namespace elserve
