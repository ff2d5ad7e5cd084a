#include "engine/model/encoder.h"

#include "engine/model/allocate.h"

namespace elserve {
namespace {

constexpr Phase kPhase = Phase::kEncode;

}  // namespace

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Create(const ModelConfig& config, const PackedModel& weights,
                                                         std::optional<AttentionForm> memory, int positions,
                                                         Backend& backend) {
  std::unique_ptr<Encoder> encoder(new Encoder(config, weights, memory, backend));
  if (!memory) return encoder;
  const int64_t inner = static_cast<int64_t>(config.encoder.heads) * config.encoder.head_dim;
  const int64_t keys_and_values = 2 * static_cast<int64_t>(config.decoder.heads) * config.decoder.head_dim;
  absl::Status status = encoder->stream_.TakeMemory(positions, config.encoder.ffn);
  status.Update(Allocate(backend, positions,
                         {{&encoder->qkv_, 3 * inner, Storage::kState},
                          {&encoder->context_, inner, Storage::kState},
                          {&encoder->kv_, memory == AttentionForm::kKv ? keys_and_values : 0, Storage::kState}}));
  if (!status.ok()) return status;
  return encoder;
}

void Encoder::Embed() { stream_.Embed(weights_.encoder_tokens(), weights_.encoder_embedding); }

void Encoder::RunLayer(int layer) {
  const PackedEncoderLayer& w = weights_.encoder[layer];
  backend_.Linear({.phase = kPhase, .input = stream_.state(), .weight = w.qkv.get(), .output = qkv_});
  const int heads = config_.encoder.heads, head_dim = config_.encoder.head_dim;
  if (w.features) {
    backend_.FavorAttention(
        {.qkv = qkv_, .features = w.features.get(), .heads = heads, .head_dim = head_dim, .output = context_});
  } else {
    backend_.EncoderAttention({.qkv = qkv_,
                               .heads = heads,
                               .head_dim = head_dim,
                               .output = context_,
                               .bias = weights_.encoder_bias.view(),
                               .approximation = weights_.approximation});
  }
  stream_.Add(context_, w.o, w.norm);
  stream_.FeedForward(w.feed_forward);
}

void Encoder::Store() {
  if (memory_ == AttentionForm::kEl) {
    backend_.StoreEncoder({.layer = 0, .states = stream_.state()});
    return;
  }
  for (int layer = 0; layer < static_cast<int>(weights_.decoder.size()); ++layer) {
    const PackedWeight* kv = weights_.decoder[layer].cross_attention->kv.get();
    backend_.Linear({.phase = kPhase, .input = stream_.state(), .weight = kv, .output = kv_});
    backend_.StoreEncoder({.layer = layer, .states = kv_});
  }
}

}  // namespace elserve
