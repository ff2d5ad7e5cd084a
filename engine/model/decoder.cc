#include "engine/model/decoder.h"

#include "engine/model/allocate.h"

namespace elserve {
namespace {

constexpr Phase kPhase = Phase::kDecode;

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const ModelConfig& config, const PackedModel& weights,
                                                         AttentionForms forms, int positions, Backend& backend) {
  std::unique_ptr<Decoder> decoder(new Decoder(config, weights, forms, backend));
  const int64_t inner = static_cast<int64_t>(config.decoder.heads) * config.decoder.head_dim;
  const int64_t wide = static_cast<int64_t>(config.decoder.heads) * config.d_model;
  const bool el = forms.self == AttentionForm::kEl || forms.cross == AttentionForm::kEl;
  absl::Status status = decoder->stream_.TakeMemory(positions, config.decoder.ffn);
  status.Update(Allocate(backend, positions,
                         {{&decoder->query_, inner, Storage::kState},
                          {&decoder->absorbed_, el ? wide : 0, Storage::kState},
                          {&decoder->attended_, el ? wide : 0, Storage::kState},
                          {&decoder->kv_, forms.self == AttentionForm::kKv ? 2 * inner : 0, Storage::kState},
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
  Attend(w.self_attention, layer, true);
  Attend(w.cross_attention, layer, false);
  stream_.FeedForward(w.feed_forward);
}

void Decoder::Attend(const PackedDecoderAttention& w, int layer, bool self) {
  const bool el = (self ? forms_.self : forms_.cross) == AttentionForm::kEl;
  backend_.Linear({.phase = kPhase, .input = stream_.state(), .weight = w.q.get(), .output = query_});
  if (el) {
    backend_.PerHeadLinear({.phase = kPhase, .input = query_, .weight = w.absorb.get(), .output = absorbed_});
  } else if (self) {
    backend_.Linear({.phase = kPhase, .input = stream_.state(), .weight = w.kv.get(), .output = kv_});
  }
  const Tensor& query = el ? absorbed_ : query_;
  const Tensor& attended = el ? attended_ : context_;
  if (self) {
    backend_.SelfAttention({.layer = layer,
                            .states = el ? stream_.state() : kv_,
                            .query = query,
                            .output = attended,
                            .bias = weights_.decoder_bias.view()});
  } else {
    backend_.CrossAttention({.layer = layer, .query = query, .output = attended});
  }
  if (el) backend_.PerHeadLinear({.phase = kPhase, .input = attended_, .weight = w.expand.get(), .output = context_});
  stream_.Add(context_, w.o, w.norm);
}

}  // namespace elserve
