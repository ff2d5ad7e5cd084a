// What attention may leave out of its weights, or round them to: opt-in, and lossy.
#ifndef ELSERVE_ENGINE_ATTENTION_APPROXIMATION_H_
#define ELSERVE_ENGINE_ATTENTION_APPROXIMATION_H_

#include <algorithm>

namespace elserve {

// What becomes of the weights that the softmax gives (Ji et al. 2021, "On the Distribution, Sparsity, and
// Inference-time Quantization of Attention Values in Transformers").
enum class AttentionValues {
  kExact,
  kPruned,   // those below the threshold become 0; the others stay, so that a row sums to less than 1
  kLog3Bit,  // the others become the nearest of seven values, on a logarithmic scale
};

// "exact", "pruned", "log3bit".
inline const char* ToString(AttentionValues values) {
  return values == AttentionValues::kExact ? "exact" : values == AttentionValues::kPruned ? "pruned" : "log3bit";
}

// Where no threshold is given.
inline constexpr float kDefaultAttentionThreshold = 1e-3f;

// kLog3Bit: a weight from edge i of the scale [10^-3, 1], cut into seven equal parts of its logarithm, to edge i + 1
// becomes value i, the paper's middle of that part. What is below the first edge becomes 0.
inline constexpr int kLogValues = 7;
inline constexpr float kLogEdges[kLogValues] = {1e-3f,         2.682696e-3f, 7.196857e-3f, 1.9306977e-2f,
                                                5.1794747e-2f, 0.138949549f, 0.372759372f};
inline constexpr float kLogValue[kLogValues] = {0.00164f, 0.00439f, 0.01179f, 0.03162f, 0.08483f, 0.22758f, 0.61054f};

// Of the encoder's attention and of cross-attention. A position's own history is short, and stays exact.
struct AttentionApproximation {
  // Of each query so many tokens enter the softmax: those with the largest scores, the first among equals. 0, or no
  // fewer than there are: all, and the result is the exact one to the bit. (Gupta et al. 2021, "Memory-efficient
  // Transformers via Top-k Attention".)
  int top_k = 0;
  AttentionValues values = AttentionValues::kExact;
  // Of a source of kThresholdTokens: weights become smaller as sources become longer, so a longer one's threshold is
  // smaller by as much. The largest weight of a row, and what equals it, is always kept.
  float threshold = 0;

  static constexpr int kThresholdTokens = 384;

  bool exact() const { return top_k == 0 && values == AttentionValues::kExact; }
  // Whether a query over so many tokens has the exact result.
  bool exact(int tokens) const { return values == AttentionValues::kExact && (top_k == 0 || top_k >= tokens); }
  // Whether a row of weights need not sum to 1.
  bool loses_weight() const { return values != AttentionValues::kExact; }
  // Of a row of so many tokens, weights from here on are kept. `largest`: of the row.
  float LeastKept(int tokens, float largest) const {
    const float scaled = threshold * static_cast<float>(kThresholdTokens) / static_cast<float>(tokens);
    return std::min(values == AttentionValues::kLog3Bit ? std::max(scaled, kLogEdges[0]) : scaled, largest);
  }
  bool operator==(const AttentionApproximation&) const = default;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_ATTENTION_APPROXIMATION_H_
