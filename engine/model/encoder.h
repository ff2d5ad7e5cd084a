// The encoder, layer by layer, over the encode layout's documents.
#ifndef ELSERVE_ENGINE_MODEL_ENCODER_H_
#define ELSERVE_ENGINE_MODEL_ENCODER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/model/packed_weights.h"

namespace elserve {

// Its activations stay between steps, so that a batch of documents can be encoded a few layers a step. The backend, the
// config and the weights must outlive it.
class Encoder {
 public:
  // `positions`: the most tokens of one batch. `memory`: the form of what Store writes.
  static absl::StatusOr<std::unique_ptr<Encoder>> Create(const ModelConfig& config, const PackedModel& weights,
                                                         AttentionForm memory, int positions, Backend& backend);

  int layers() const { return static_cast<int>(weights_.encoder.size()); }

  // Between BeginStep and Selected of a step whose encode layout is the batch: Embed, then each layer in order, then
  // Store.
  void Embed();
  void RunLayer(int layer);
  void Store();

  // The batch's hidden states after the last layer, for tests: kState [positions, d].
  const Tensor& states() const { return state_; }

 private:
  Encoder(const ModelConfig& config, const PackedModel& weights, AttentionForm memory, Backend& backend)
      : config_(config), weights_(weights), memory_(memory), backend_(backend) {}

  // The residual -> the states that the next product reads.
  void Norm(const PackedNorm& norm);

  const ModelConfig& config_;
  const PackedModel& weights_;
  const AttentionForm memory_;
  Backend& backend_;
  Tensor residual_;  // [positions, d] float32
  Tensor state_;     // [positions, d]
  Tensor qkv_;       // [positions, 3a]
  Tensor context_;   // [positions, a]
  Tensor hidden_;    // [positions, ffn]
  Tensor kv_;        // kv: [positions, 2a of the decoder]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_ENCODER_H_
