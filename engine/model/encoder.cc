#include "engine/model/encoder.h"

#include "engine/model/allocate.h"

namespace elserve {

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Create(const ModelConfig& config, const PackedModel& weights, bool el,
                                                         int positions, Backend& backend) {
  std::unique_ptr<Encoder> encoder(new Encoder(config, weights, el, backend));
  const int64_t inner = static_cast<int64_t>(config.encoder.heads) * config.encoder.head_dim;
  const int64_t memory = 2 * static_cast<int64_t>(config.decoder.heads) * config.decoder.head_dim;
  const absl::Status status = Allocate(backend, positions,
                                       {{&encoder->residual_, config.d_model, Storage::kResidual},
                                        {&encoder->state_, config.d_model, Storage::kState},
                                        {&encoder->qkv_, 3 * inner, Storage::kState},
                                        {&encoder->context_, inner, Storage::kState},
                                        {&encoder->hidden_, config.encoder.ffn, Storage::kState},
                                        {&encoder->kv_, el ? 0 : memory, Storage::kState}});
  if (!status.ok()) return status;
  return encoder;
}

void Encoder::Embed() {
  const PackedEmbedding& e = weights_.encoder_embedding;
  backend_.Embed({Phase::kEncode, weights_.encoder_tokens(), config_.embedding_scale, e.positions.get(),
                  config_.position_offset, residual_});
  backend_.Norm({Phase::kEncode, residual_, e.norm.get(), &residual_, state_});
}

void Encoder::RunLayer(int layer) {
  const PackedEncoderLayer& w = weights_.encoder[layer];
  constexpr Phase kPhase = Phase::kEncode;
  backend_.Linear({kPhase, state_, w.qkv.get(), Activation::kNone, nullptr, qkv_});
  backend_.EncoderAttention({qkv_, config_.encoder.heads, config_.encoder.head_dim, context_});
  backend_.Linear({kPhase, context_, w.o.get(), Activation::kNone, &residual_, residual_});
  backend_.Norm({kPhase, residual_, w.norm.get(), &residual_, state_});

  backend_.Linear({kPhase, state_, w.feed_forward.fc1.get(), config_.activation, nullptr, hidden_});
  backend_.Linear({kPhase, hidden_, w.feed_forward.fc2.get(), Activation::kNone, &residual_, residual_});
  backend_.Norm({kPhase, residual_, w.feed_forward.norm.get(), &residual_, state_});
}

void Encoder::Store() {
  if (el_) {
    backend_.StoreEncoder({0, state_});
    return;
  }
  for (int layer = 0; layer < static_cast<int>(weights_.decoder.size()); ++layer) {
    backend_.Linear(
        {Phase::kEncode, state_, weights_.decoder[layer].cross_attention.kv.get(), Activation::kNone, nullptr, kv_});
    backend_.StoreEncoder({layer, kv_});
  }
}

}  // namespace elserve
