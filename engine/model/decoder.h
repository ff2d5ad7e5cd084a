// The decoder: one step of all positions of the decode layout.
#ifndef ELSERVE_ENGINE_MODEL_DECODER_H_
#define ELSERVE_ENGINE_MODEL_DECODER_H_

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/model/packed_weights.h"
#include "engine/model/residual_stream.h"

namespace elserve {

// The backend, the config and the weights must outlive it.
class Decoder {
 public:
  // `phase`: whose positions, kPrefill or kDecode. `positions`: the most of one step. `forms`: of attention.
  struct Options {
    Phase phase = Phase::kDecode;
    int positions = 0;
    AttentionForms forms;
    std::span<const int> salient_layers = {};  // from 1: those whose cross-attention adds DecodeDocument::bias
  };
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(const ModelConfig& config, const PackedModel& weights,
                                                         const Options& options, Backend& backend);

  // Between BeginStep and Selected: from the layout's tokens to the hidden states.
  void Run();
  // The best next tokens of the layout's select rows.
  void Select() { backend_.SelectTokens({.phase = phase_, .input = stream_.state(), .weight = weights_.head.get()}); }

 private:
  Decoder(const ModelConfig& config, const PackedModel& weights, const Options& options, Backend& backend)
      : config_(config),
        weights_(weights),
        phase_(options.phase),
        forms_(options.forms),
        biased_(config.decoder.layers),
        backend_(backend),
        stream_(config, options.phase, backend) {
    for (const int layer : options.salient_layers) biased_[layer - 1] = true;
  }

  void RunLayer(int layer);
  // The attention sublayer over the row's own history, or over its document where the model has an encoder.
  void SelfAttention(const PackedDecoderAttention& w, int layer);
  void PrefillAttention(const PackedDecoderAttention& w, int layer);
  void CrossAttention(const PackedDecoderAttention& w, int layer);
  void Queries(const PackedDecoderAttention& w);
  // el: the state's queries over states, and back from what they attended to.
  void Absorb(const PackedDecoderAttention& w);
  const Tensor* TotalsOf(const PackedDecoderAttention& w) const { return w.expand_bias ? &totals_ : nullptr; }
  void Expand(const PackedDecoderAttention& w);

  const ModelConfig& config_;
  const PackedModel& weights_;
  const Phase phase_;
  const AttentionForms forms_;
  std::vector<bool> biased_;  // [layers]: the cross-attention
  Backend& backend_;
  ResidualStream stream_;
  Tensor query_;     // [positions, a]
  Tensor absorbed_;  // el: [positions, heads * d]: q~
  Tensor attended_;  // el: [positions, heads * d]: softmax(q~ H^T) H
  Tensor totals_;    // of PackedDecoderAttention::expand_bias: [positions, heads]
  Tensor qkv_;       // self kv: [positions, 3a]
  Tensor context_;   // [positions, a]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_DECODER_H_
