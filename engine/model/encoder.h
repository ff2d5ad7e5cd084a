// The encoder, layer by layer, over the encode layout's documents.
#ifndef ELSERVE_ENGINE_MODEL_ENCODER_H_
#define ELSERVE_ENGINE_MODEL_ENCODER_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/model/packed_weights.h"
#include "engine/model/residual_stream.h"

namespace elserve {

// Its activations stay between steps, so that a batch of documents can be encoded a few layers a step. The backend, the
// config and the weights must outlive it.
class Encoder {
 public:
  // `positions`: the most tokens of one batch. `memory`: the form of what Store writes; none: the model is
  // decoder-only, its encoder has no layers, takes no memory and is not to be run.
  static absl::StatusOr<std::unique_ptr<Encoder>> Create(const ModelConfig& config, const PackedModel& weights,
                                                         std::optional<AttentionForm> memory, int positions,
                                                         Backend& backend);

  int layers() const { return static_cast<int>(weights_.encoder.size()); }

  // Between BeginStep and Selected of a step whose encode layout is the batch: Embed, then each layer in order, then
  // Store.
  void Embed();
  void RunLayer(int layer);
  void Store();

  // The batch's hidden states after the last layer, for tests: kState [positions, d].
  const Tensor& states() const { return stream_.state(); }

 private:
  Encoder(const ModelConfig& config, const PackedModel& weights, std::optional<AttentionForm> memory, Backend& backend)
      : config_(config),
        weights_(weights),
        memory_(memory),
        backend_(backend),
        stream_(config, Phase::kEncode, backend) {}

  const ModelConfig& config_;
  const PackedModel& weights_;
  const std::optional<AttentionForm> memory_;
  Backend& backend_;
  ResidualStream stream_;
  Tensor qkv_;      // [positions, 3a]
  Tensor context_;  // [positions, a]
  Tensor kv_;       // kv: [positions, 2a of the decoder]
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_ENCODER_H_
