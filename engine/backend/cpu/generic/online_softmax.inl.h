// Attention as matrix work with an online softmax: for each strip of tokens, scores by a product, their weights,
// and the weighted sum by another product. A query keeps the maximum m, the sum l of its weights and the sum c of
// weighted states; a strip with a new maximum scales l and c by exp(m - new m).
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ONLINE_SOFTMAX_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ONLINE_SOFTMAX_INL_H_

namespace elserve::cpu {
namespace {

// Terms of the weights' exponential: bfloat16 weights need no more than 4.
template <class S>
inline constexpr int kExpTerms = S::kPack == 2 ? 4 : 6;

// The maximum before the first score: below all of them, and finite, since infinity minus infinity is no number.
inline constexpr float kNoScore = -1e30f;

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ONLINE_SOFTMAX_INL_H_
