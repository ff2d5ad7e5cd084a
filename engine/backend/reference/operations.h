// The arithmetic of the reference backend: one function for one row, values in float32, sums in float64.
#ifndef ELSERVE_ENGINE_BACKEND_REFERENCE_OPERATIONS_H_
#define ELSERVE_ENGINE_BACKEND_REFERENCE_OPERATIONS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/backend/backend.h"
#include "engine/backend/reference/weights.h"

namespace elserve::reference {

// sum_i a[i] b[i]
double Dot(const float* a, const float* b, int64_t n);

// As transformers' ACT2FN: relu, gelu (exact, by erf), gelu_new and gelu_pytorch_tanh (one formula), quick_gelu, silu,
// tanh.
double Activate(Activation activation, double x);

// output = norm(input) * gamma + beta, as torch's LayerNorm and transformers' T5LayerNorm. output may be input.
void NormRow(const NormWeight& weight, const float* input, float* output);

// Where a token's state holds head i's key and value: key_step * i, and value_begin + value_step * i.
struct StateLayout {
  int heads;
  int64_t width;  // of a query, a key and a value of one head
  int64_t key_step;
  int64_t value_begin;
  int64_t value_step;
};
// EL-attention: the state is key and value of every head.
StateLayout HiddenStates(int heads, int d);
// Keys of all heads, then values of all heads.
StateLayout KeysAndValues(int heads, int head_dim);

// The weights of a row's scores, in their place: their softmax, or what `approximation` makes of it.
void Weigh(const AttentionApproximation& approximation, std::span<double> scores);

// For each head i: output_i = sum_t a_t value_i(t) with a = Weigh(query_i . key_i(t) + bias(i, t)). At least one state.
// query and output: [heads * width]. totals: if not null, [heads]: sum_t a_t.
using ScoreBias = absl::FunctionRef<float(int head, int64_t t)>;
struct AttendArgs {
  StateLayout layout;
  const float* query;
  std::span<const float* const> states;
  ScoreBias bias;
  AttentionApproximation approximation = {};
  float* output;
  float* totals = nullptr;
};
void Attend(const AttendArgs& args);

// The `count` largest values stay, the first among equals; the others become `other`.
void KeepLargest(int count, double other, std::span<double> values);

// FAVOR+ of one head over a document's `tokens`: see FavorAttentionArgs. features: [m, head_dim], m = features.size() /
// head_dim. q, k, v and output: rows of head_dim, `stride` numbers from each other, the output's output_stride.
struct FavorHead {
  std::span<const float> features;
  int64_t head_dim;
  int64_t tokens;
  const float *q, *k, *v;
  int64_t stride;
  float* output;
  int64_t output_stride;
};
void AttendFavor(const FavorHead& head);

// A select row's best tokens, from its logits. false: a logit was not a number or +infinity, or none was finite.
bool SelectCandidates(const SelectRow& row, std::span<const float> logits, std::vector<Candidate>* candidates);

}  // namespace elserve::reference

#endif  // ELSERVE_ENGINE_BACKEND_REFERENCE_OPERATIONS_H_
