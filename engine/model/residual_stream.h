// What the layers of both sides do alike: the stream of residuals that sublayers add to, and the states that they read.
#ifndef ELSERVE_ENGINE_MODEL_RESIDUAL_STREAM_H_
#define ELSERVE_ENGINE_MODEL_RESIDUAL_STREAM_H_

#include "absl/status/status.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/model/packed_weights.h"

namespace elserve {

// Of one phase's positions. The backend and the config must outlive it.
class ResidualStream {
 public:
  ResidualStream(const ModelConfig& config, Phase phase, Backend& backend)
      : config_(config), phase_(phase), backend_(backend) {}

  // At load. `positions`: the most of one step. `ffn`: width between the feed-forward products.
  absl::Status TakeMemory(int positions, int ffn);

  // The first layer's input, from the layout's tokens.
  void Embed(const PackedWeight* tokens, const PackedEmbedding& embedding);
  // A sublayer's end: residual += input * weight, then the norm that follows.
  void Add(const Tensor& input, const PackedWeightPtr& weight, const PackedNorm& norm);
  // The feed-forward sublayer.
  void FeedForward(const PackedFeedForward& w);

  // What the next sublayer's products read: kState [positions, d].
  const Tensor& state() const { return state_; }

 private:
  // The residual -> the states.
  void Norm(const PackedNorm& norm);

  const ModelConfig& config_;
  const Phase phase_;
  Backend& backend_;
  Tensor residual_;  // [positions, d] float32
  Tensor state_;     // [positions, d]
  Tensor hidden_;    // [positions, ffn]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_RESIDUAL_STREAM_H_
