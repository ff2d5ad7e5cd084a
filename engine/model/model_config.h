// What differs between families and checkpoints, as values: the encoder and the decoder are written once and read
// these. Filled by families/ from a checked config.json; every number is within sane bounds.
#ifndef ELSERVE_ENGINE_MODEL_MODEL_CONFIG_H_
#define ELSERVE_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/backend/backend.h"

namespace elserve {

// The encoder's or the decoder's layers.
struct StackConfig {
  int layers = 0;            // at least 1; 0: there is no such side, and nothing below means anything
  int heads = 0;             // of each attention; in the decoder of self- and cross-attention alike
  int head_dim = 0;          // numbers a head; heads * head_dim may differ from d_model
  int ffn = 0;               // width between the two feed-forward products
  float score_scale = 1.0f;  // queries are multiplied by it, their bias included: 1/sqrt(head_dim)
  int favor_features = 0;    // random features of each self-attention, which is FAVOR+'s; 0: it is a softmax
  int max_positions = 0;     // tokens of a source, or of a hypothesis with its start token, that its positions allow
  int max_tokens = 0;        // of them, what the engine takes: at least 1 before FindModelWeights
};

// T5's relative positions: how many buckets distances fall into, and from which distance on all are in one bucket.
struct RelativeBuckets {
  int buckets = 0;  // 0: the family has none
  int max_distance = 0;
};

// Where a sublayer's norm stands. kPost: x = norm(x + sublayer(x)). kPre: x = x + sublayer(norm(x)).
enum class NormPlacement { kPost, kPre };

// What tells the layers where a token stands. kLearned: a table of the checkpoint's. kSinusoids: the table of Vaswani
// et al. 2017 as transformers orders it, stored or made.
enum class Positions { kNone, kLearned, kSinusoids };

struct ModelConfig {
  std::string model_type;  // as config.json names it: "bart"
  int vocab_size = 0;      // token ids are in [0, vocab_size)
  int d_model = 0;         // width of the hidden states of both sides
  StackConfig encoder;     // no layers: the model is decoder-only, without cross-attention
  StackConfig decoder;
  Activation activation = Activation::kGelu;  // between the feed-forward products, both sides
  bool gated_feed_forward = false;            // activation(gate(x)) * fc1(x) instead of activation(fc1(x))
  NormPlacement norm_placement = NormPlacement::kPost;
  NormKind norm_kind = NormKind::kLayerNorm;
  float norm_epsilon = 1e-5f;    // inside the square root
  float embedding_scale = 1.0f;  // token embeddings are multiplied by it before positions are added, both sides
  Positions positions = Positions::kLearned;
  int position_offset = 0;  // position p is row p + offset of the position tables
  RelativeBuckets relative_buckets;
  // Where positions end nowhere: what both sides' max_tokens are unless the options say otherwise, and where the number
  // is from. 0: as many as the positions allow.
  int usual_tokens = 0;
  std::string usual_tokens_reason;
  // The head is the token embedding (tie_word_embeddings); the checkpoint need not hold it then.
  bool tied_head = true;
  float head_scale = 1.0f;  // the decoder's last states are multiplied by it before the head
  // Ids that the checkpoint's config.json names, inside the vocabulary; -1 or empty: none. What decoding uses is
  // decided by its parameters, not by these.
  int32_t pad_token_id = -1;
  int32_t bos_token_id = -1;
  int32_t decoder_start_token_id = -1;
  std::vector<int32_t> eos_token_id;

  bool decoder_only() const { return encoder.layers == 0; }
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_MODEL_CONFIG_H_
