// A checkpoint's weights on the device, folded for the form of attention that was chosen.
#ifndef ELSERVE_ENGINE_MODEL_PACKED_WEIGHTS_H_
#define ELSERVE_ENGINE_MODEL_PACKED_WEIGHTS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/model/model_config.h"
#include "engine/model/model_weights.h"
#include "engine/precision.h"

namespace elserve {

// The norm that follows a sublayer or the embedding: it makes the states that the next product reads. Post-norm: the
// sublayer's own. Pre-norm: the next sublayer's, or the stack's final one. So a layer reads alike for both.
struct PackedNorm {
  PackedWeightPtr weight;    // null: the residual is only rounded to states
  bool to_residual = false;  // the normed values go on as the residual too: post-norm, and norms of embeddings
};

struct PackedEmbedding {
  PackedWeightPtr tokens;         // [vocab, d]
  PackedWeightPtr positions;      // [max_positions + offset, d]; null: none
  std::vector<PackedNorm> norms;  // one after the other, at least one: the embedding's, then the first sublayer's
};

struct PackedFeedForward {
  PackedWeightPtr fc1;  // d -> ffn; gated or not
  PackedWeightPtr fc2;  // ffn -> d
  int top_k = 0;        // of the activations between; 0: all
  PackedNorm norm;
};

struct PackedEncoderLayer {
  PackedWeightPtr qkv;  // d -> 3a: q (scaled), k, v side by side; with features q and k have the root of the scale each
  PackedWeightPtr features;  // [favor_features, head_dim]; null: softmax
  PackedWeightPtr o;         // a -> d
  PackedNorm norm;
  PackedFeedForward feed_forward;
};

// Attention of the decoder, over its own history or the document.
//   el: q~_i = q_i W_K,i^T by `absorb`, c_i W_V,i by `expand`; b_K cancels in the softmax, b_V is folded into o's bias,
//   unless a row of weights need not sum to 1 (AttentionApproximation::loses_weight): then it is `expand`'s.
//   kv: `qkv` makes queries, keys and values of the history side by side; `kv` keys and values of the document.
// Prefill over el's history makes keys and values of cached states by `kv`, without the biases that are folded.
struct PackedDecoderAttention {
  PackedWeightPtr q;         // d -> a, scaled by score_scale; self kv: in qkv
  PackedWeightPtr absorb;    // el: per head, head_dim -> d
  PackedWeightPtr expand;    // el: per head, d -> head_dim
  bool expand_bias = false;  // whether expand has the values' bias, which takes the totals of the weights
  PackedWeightPtr qkv;       // self kv: d -> 3a
  PackedWeightPtr kv;        // cross kv, self el: d -> 2a
  PackedWeightPtr o;         // a -> d
  PackedNorm norm;
};

struct PackedDecoderLayer {
  PackedDecoderAttention self_attention;
  std::optional<PackedDecoderAttention> cross_attention;  // none in a decoder-only model
  PackedFeedForward feed_forward;
};

// PositionBias with its table.
struct PackedBias {
  PackedWeightPtr table;  // null: none
  int zero = 0;
  PositionBias view() const { return {.table = table.get(), .zero = zero}; }
};

struct PackedModel {
  PackedEmbedding encoder_embedding;  // tokens is null where both sides share the decoder's, or there is no encoder
  PackedBias encoder_bias;
  std::vector<PackedEncoderLayer> encoder;
  PackedEmbedding decoder_embedding;
  PackedBias decoder_bias;
  std::vector<PackedDecoderLayer> decoder;
  PackedWeightPtr head;                  // d -> vocab, with the logits' bias
  AttentionApproximation approximation;  // of the encoder's attention and of cross-attention
  int64_t bytes = 0;

  const PackedWeight* encoder_tokens() const {
    return encoder_embedding.tokens ? encoder_embedding.tokens.get() : decoder_embedding.tokens.get();
  }
};

// How many numbers PackModel packs, at most: a head that is tied to the token embedding counts once among the
// parameters, but the embedding is looked up and the head multiplied, in two layouts; so are el's keys and values.
int64_t PackedNumbers(const ModelWeights& weights);

struct PackOptions {
  AttentionForms forms;  // of the decoder's attention
  AttentionApproximation approximation = {};
  int ffn_top_k = 0;  // of all feed-forward layers; 0: all
  bool int8 = false;  // products' weights, but for those that are kept
  Int8Keep int8_keep = {};
  // MemoryShape::int8. With it, or with int8 weights, columns of the encoder's output that are far above the others are
  // made smaller, and what reads them, which is cross-attention alone, makes up for it: a row's integers have one
  // scale.
  bool int8_memory = false;
};

// Folds in float32 and packs; the host weights may go afterwards.
PackedModel PackModel(const ModelConfig& config, const ModelWeights& weights, const PackOptions& options,
                      Backend& backend);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_PACKED_WEIGHTS_H_
