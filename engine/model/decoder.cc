#include "engine/model/decoder.h"

#include "engine/model/allocate.h"

namespace elserve {

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const ModelConfig& config, const PackedModel& weights, bool el,
                                                         int positions, Backend& backend) {
  std::unique_ptr<Decoder> decoder(new Decoder(config, weights, el, backend));
  const int64_t inner = static_cast<int64_t>(config.decoder.heads) * config.decoder.head_dim;
  const int64_t wide = static_cast<int64_t>(config.decoder.heads) * config.d_model;
  const absl::Status status = Allocate(backend, positions,
                                       {{&decoder->residual_, config.d_model, Storage::kResidual},
                                        {&decoder->state_, config.d_model, Storage::kState},
                                        {&decoder->query_, inner, Storage::kState},
                                        {&decoder->absorbed_, el ? wide : 0, Storage::kState},
                                        {&decoder->attended_, el ? wide : 0, Storage::kState},
                                        {&decoder->kv_, el ? 0 : 2 * inner, Storage::kState},
                                        {&decoder->context_, inner, Storage::kState},
                                        {&decoder->hidden_, config.decoder.ffn, Storage::kState}});
  if (!status.ok()) return status;
  return decoder;
}

void Decoder::Run() {
  const PackedEmbedding& e = weights_.decoder_embedding;
  backend_.Embed(
      {Phase::kDecode, e.tokens.get(), config_.embedding_scale, e.positions.get(), config_.position_offset, residual_});
  backend_.Norm({Phase::kDecode, residual_, e.norm.get(), &residual_, state_});
  for (int layer = 0; layer < static_cast<int>(weights_.decoder.size()); ++layer) RunLayer(layer);
}

void Decoder::RunLayer(int layer) {
  const PackedDecoderLayer& w = weights_.decoder[layer];
  Attend(w.self_attention, layer, true);
  Attend(w.cross_attention, layer, false);
  backend_.Linear({Phase::kDecode, state_, w.feed_forward.fc1.get(), config_.activation, nullptr, hidden_});
  backend_.Linear({Phase::kDecode, hidden_, w.feed_forward.fc2.get(), Activation::kNone, &residual_, residual_});
  backend_.Norm({Phase::kDecode, residual_, w.feed_forward.norm.get(), &residual_, state_});
}

void Decoder::Attend(const PackedDecoderAttention& w, int layer, bool self) {
  constexpr Phase kPhase = Phase::kDecode;
  backend_.Linear({kPhase, state_, w.q.get(), Activation::kNone, nullptr, query_});
  if (el_) {
    backend_.PerHeadLinear({kPhase, query_, w.absorb.get(), absorbed_});
  } else if (self) {
    backend_.Linear({kPhase, state_, w.kv.get(), Activation::kNone, nullptr, kv_});
  }
  const Tensor& query = el_ ? absorbed_ : query_;
  const Tensor& attended = el_ ? attended_ : context_;
  if (self) {
    backend_.SelfAttention({layer, el_ ? state_ : kv_, query, attended});
  } else {
    backend_.CrossAttention({layer, query, attended});
  }
  if (el_) backend_.PerHeadLinear({kPhase, attended_, w.expand.get(), context_});
  backend_.Linear({kPhase, context_, w.o.get(), Activation::kNone, &residual_, residual_});
  backend_.Norm({kPhase, residual_, w.norm.get(), &residual_, state_});
}

}  // namespace elserve
