#include "engine/model/decoder.h"

#include <algorithm>

#include "engine/model/allocate.h"

namespace elserve {
absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const ModelConfig& config, const PackedModel& weights,
                                                         const Options& options, Backend& backend) {
  std::unique_ptr<Decoder> decoder(new Decoder(config, weights, options, backend));
  const int64_t inner = static_cast<int64_t>(config.decoder.heads) * config.decoder.head_dim;
  const int64_t wide = static_cast<int64_t>(config.decoder.heads) * config.d_model;
  const AttentionForms forms = options.forms;
  const bool el =
      forms.cross == AttentionForm::kEl || (forms.self == AttentionForm::kEl && options.phase == Phase::kDecode);
  const bool totals = std::any_of(weights.decoder.begin(), weights.decoder.end(), [](const PackedDecoderLayer& layer) {
    return layer.cross_attention && layer.cross_attention->expand_bias;
  });
  absl::Status status = decoder->stream_.TakeMemory(options.positions, config.decoder.ffn);
  status.Update(Allocate(backend, options.positions,
                         {{&decoder->query_, inner, Storage::kState},
                          {&decoder->absorbed_, el ? wide : 0, Storage::kState},
                          {&decoder->attended_, el ? wide : 0, Storage::kState},
                          {&decoder->totals_, totals ? config.decoder.heads : 0, Storage::kResidual},
                          {&decoder->qkv_, forms.self == AttentionForm::kKv ? 3 * inner : 0, Storage::kState},
                          {&decoder->context_, inner, Storage::kState}}));
  if (!status.ok()) return status;
  return decoder;
}

void Decoder::Run() {
  stream_.Embed(weights_.decoder_embedding.tokens.get(), weights_.decoder_embedding);
  for (int layer = 0; layer < static_cast<int>(weights_.decoder.size()); ++layer) RunLayer(layer);
}

void Decoder::RunLayer(int layer) {
  const PackedDecoderLayer& w = weights_.decoder[layer];
  phase_ == Phase::kPrefill ? PrefillAttention(w.self_attention, layer) : SelfAttention(w.self_attention, layer);
  if (w.cross_attention) CrossAttention(*w.cross_attention, layer);
  stream_.FeedForward(w.feed_forward);
}

void Decoder::SelfAttention(const PackedDecoderAttention& w, int layer) {
  const PositionBias bias = weights_.decoder_bias.view();
  if (forms_.self == AttentionForm::kEl) {
    Absorb(w);
    backend_.SelfAttention(
        {.layer = layer, .states = stream_.state(), .query = absorbed_, .output = attended_, .bias = bias});
    Expand(w);
  } else {
    backend_.Linear({.phase = phase_, .input = stream_.state(), .weight = w.qkv.get(), .output = qkv_});
    backend_.SelfAttention({.layer = layer, .states = qkv_, .query = {}, .output = context_, .bias = bias});
  }
  stream_.Add(context_, w.o, w.norm);
}

void Decoder::PrefillAttention(const PackedDecoderAttention& w, int layer) {
  const bool el = forms_.self == AttentionForm::kEl;
  if (el) {
    Queries(w);
  } else {
    backend_.Linear({.phase = phase_, .input = stream_.state(), .weight = w.qkv.get(), .output = qkv_});
  }
  backend_.PrefillAttention({.layer = layer,
                             .states = el ? stream_.state() : qkv_,
                             .query = el ? query_ : Tensor{},
                             .keys_values = w.kv.get(),
                             .output = context_,
                             .bias = weights_.decoder_bias.view()});
  stream_.Add(context_, w.o, w.norm);
}

void Decoder::CrossAttention(const PackedDecoderAttention& w, int layer) {
  const bool biased = biased_[layer];
  if (forms_.cross == AttentionForm::kEl) {
    Absorb(w);
    backend_.CrossAttention({.phase = phase_,
                             .layer = layer,
                             .query = absorbed_,
                             .output = attended_,
                             .biased = biased,
                             .approximation = weights_.approximation,
                             .totals = TotalsOf(w)});
    Expand(w);
  } else {
    Queries(w);
    backend_.CrossAttention({.phase = phase_,
                             .layer = layer,
                             .query = query_,
                             .output = context_,
                             .biased = biased,
                             .approximation = weights_.approximation});
  }
  stream_.Add(context_, w.o, w.norm);
}

void Decoder::Queries(const PackedDecoderAttention& w) {
  backend_.Linear({.phase = phase_, .input = stream_.state(), .weight = w.q.get(), .output = query_});
}

void Decoder::Absorb(const PackedDecoderAttention& w) {
  Queries(w);
  backend_.PerHeadLinear({.phase = phase_, .input = query_, .weight = w.absorb.get(), .output = absorbed_});
}

void Decoder::Expand(const PackedDecoderAttention& w) {
  backend_.PerHeadLinear(
      {.phase = phase_, .input = attended_, .weight = w.expand.get(), .output = context_, .totals = TotalsOf(w)});
}

}  // namespace elserve
