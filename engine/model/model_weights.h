// A checkpoint's tensors under the canonical names that the encoder and the decoder use, in host memory and in the
// checkpoint's own data type. Shapes are checked against ModelConfig; the bytes are views into the Checkpoint, which
// must outlive them. What a family does not have is nullopt.
//
// Below: d = d_model, a = heads * head_dim of the side. Linear weights are [out, in], as torch.nn.Linear has them.
#ifndef ELSERVE_ENGINE_MODEL_MODEL_WEIGHTS_H_
#define ELSERVE_ENGINE_MODEL_MODEL_WEIGHTS_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "engine/backend/backend.h"

namespace elserve {

struct LinearWeights {
  HostTensor weight;               // [out, in]
  std::optional<HostTensor> bias;  // [out]
};

struct NormWeights {
  HostTensor gamma;                // [d]
  std::optional<HostTensor> beta;  // [d]
};

struct AttentionWeights {
  LinearWeights q, k, v;               // [a, d]; rows i * head_dim to (i + 1) * head_dim are head i
  LinearWeights o;                     // [d, a]
  NormWeights norm;                    // the sublayer's own: ModelConfig::norm_placement says where it stands
  std::optional<HostTensor> features;  // [favor_features, head_dim], of all heads: StackConfig::favor_features
};

struct FeedForwardWeights {
  LinearWeights fc1;                  // [ffn, d], then the activation
  std::optional<LinearWeights> gate;  // [ffn, d]: ModelConfig::gated_feed_forward
  LinearWeights fc2;                  // [d, ffn]
  NormWeights norm;                   // as AttentionWeights::norm
};

// The sublayers in this order.
struct LayerWeights {
  AttentionWeights self_attention;
  std::optional<AttentionWeights> cross_attention;  // of the decoder; k and v read the encoder's states
  FeedForwardWeights feed_forward;
};

// What turns tokens into the first layer's input: norm(tokens[id] * embedding_scale + positions[p + position_offset]).
struct EmbeddingWeights {
  HostTensor tokens;                    // [vocab, d]; the encoder's and the decoder's are mostly the same bytes
  std::optional<HostTensor> positions;  // [max_positions of the side + position_offset, d]
  std::optional<NormWeights> norm;
};

// Added to the scores of self-attention in every layer; see PositionBias.
struct PositionBiasWeights {
  HostTensor table;  // [heads, distances]
  int zero = 0;
};

struct StackWeights {
  EmbeddingWeights embedding;
  std::optional<PositionBiasWeights> position_bias;
  std::vector<LayerWeights> layers;
  std::optional<NormWeights> final_norm;  // of the last layer's output; pre-norm families have it
};

struct ModelWeights {
  StackWeights encoder;
  StackWeights decoder;
  HostTensor head;                        // [vocab, d]; the token embedding itself where it is tied
  std::optional<HostTensor> logits_bias;  // [vocab]
  // Numbers in all tensors of the checkpoint above; a tensor that stands in several places counts once.
  int64_t parameters = 0;
  // What tensors above point to where no checkpoint holds it (a deque: they do not move).
  std::deque<std::vector<float>> generated;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_MODEL_WEIGHTS_H_
