// How a family's checkpoints call their tensors, as data, and the one function that turns names into ModelWeights.
#ifndef ELSERVE_ENGINE_MODEL_FAMILIES_TENSOR_NAMES_H_
#define ELSERVE_ENGINE_MODEL_FAMILIES_TENSOR_NAMES_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model/checkpoint/checkpoint.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"

namespace elserve {

// Names of modules; their tensors are "<module>.weight" and "<module>.bias". An empty name: the family has no such
// module.
struct AttentionNames {
  std::string_view q, k, v, o, norm;
  std::string_view qkv = {};       // instead of q, k and v: one product whose outputs they are, side by side
  std::string_view features = {};  // a tensor's name, as it is: StackConfig::favor_features
};
// The first product is `fc1`, or of a gated one (ModelConfig::gated_feed_forward) activation(`gate`) * `up`.
struct FeedForwardNames {
  std::string_view fc1, gate, up, fc2, norm;
};
struct EmbeddingNames {
  std::string_view tokens, positions, norm;
};

// One side's. Inside a layer names follow "<layers>.<i>.".
struct StackNames {
  EmbeddingNames embedding;
  std::string_view layers;
  AttentionNames self_attention;
  AttentionNames cross_attention;  // of the decoder
  FeedForwardNames feed_forward;
  std::string_view final_norm;
  std::string_view position_bias;  // ModelConfig::relative_buckets: [buckets, heads], of the first layer and for all
};

struct TensorNames {
  // The body's names may stand with or without it: a checkpoint of the body alone has none (BartModel), and
  // transformers takes both (base_model_prefix). The head's names have none.
  std::string_view prefix;
  std::string_view shared_tokens;  // the token embedding of both sides, or of the only one
  StackNames encoder;
  StackNames decoder;
  bool linear_biases = true;  // whether products have them; norms have them by their kind
  bool conv1d = false;        // weights of products are stored [in, out], as transformers' Conv1D has them
  std::string_view head;
  std::string_view logits_bias;  // a tensor of shape [1, vocab]; zeros where it is not there
};

// Finds every tensor and checks its shape. Tying as transformers' tie_weights does it: with config.tied_head an
// embedding or head that stands in the checkpoint under its own name is taken from there, and any other is the shared
// one or, without it, whichever of them is there. Without tied_head the head must be there; an embedding that is
// missing is the shared one, which is what such checkpoints were written from.
absl::StatusOr<ModelWeights> FindWeights(const Checkpoint& checkpoint, const ModelConfig& config,
                                         const TensorNames& names);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_FAMILIES_TENSOR_NAMES_H_
