#include "engine/backend/reference/operations.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "engine/backend/reference/require.h"

namespace elserve::reference {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// log(sum_i exp(values[i])); -infinity where all values are.
double LogSumExp(std::span<const float> values) {
  const double greatest = *std::max_element(values.begin(), values.end());
  if (greatest == kMinusInfinity) return kMinusInfinity;
  double sum = 0;
  for (float value : values) sum += std::exp(value - greatest);
  return greatest + std::log(sum);
}

std::vector<float> LogSoftmax(std::span<const float> values) {
  const double log_sum = LogSumExp(values);
  std::vector<float> result(values.begin(), values.end());
  // Where nothing is allowed, nothing is made likely.
  if (log_sum == kMinusInfinity) return result;
  for (float& value : result) value = static_cast<float>(value - log_sum);
  return result;
}

float Edited(float x, const LogitEdit& edit) {
  if (edit.ban || x == kMinusInfinity) return kMinusInfinity;
  x += edit.add;
  return x < 0 ? x * edit.negative : x * edit.positive;
}

}  // namespace

double Dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

double Activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0 : x;
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluQuick:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
  }
  Require(false, "an activation is one of the listed ones");
  return 0;
}

void NormRow(const NormWeight& weight, const float* input, float* output) {
  const auto d = static_cast<int64_t>(weight.gamma.size());
  double mean = 0;
  if (weight.kind == NormKind::kLayerNorm) {
    for (int64_t i = 0; i < d; ++i) mean += input[i];
    mean /= static_cast<double>(d);
  }
  double variance = 0;
  for (int64_t i = 0; i < d; ++i) variance += (input[i] - mean) * (input[i] - mean);
  variance /= static_cast<double>(d);
  const double inverse = 1 / std::sqrt(variance + weight.epsilon);
  for (int64_t i = 0; i < d; ++i) {
    output[i] = static_cast<float>((input[i] - mean) * inverse * weight.gamma[i] + weight.beta[i]);
  }
}

StateLayout HiddenStates(int heads, int d) {
  return {.heads = heads, .width = d, .key_step = 0, .value_begin = 0, .value_step = 0};
}

StateLayout KeysAndValues(int heads, int head_dim) {
  return {.heads = heads,
          .width = head_dim,
          .key_step = head_dim,
          .value_begin = static_cast<int64_t>(heads) * head_dim,
          .value_step = head_dim};
}

void KeepLargest(int count, double other, std::span<double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  for (size_t i = count; i < order.size(); ++i) values[order[i]] = other;
}

void Weigh(const AttentionApproximation& approximation, std::span<double> scores) {
  if (approximation.top_k > 0) KeepLargest(approximation.top_k, kMinusInfinity, scores);
  const double greatest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& score : scores) total += score = std::exp(score - greatest);
  for (double& weight : scores) weight /= total;
  if (!approximation.loses_weight()) return;
  const auto tokens = static_cast<int>(scores.size());
  const double least = approximation.LeastKept(tokens, static_cast<float>(1 / total));
  for (double& weight : scores) {
    if (weight < least && weight < 1 / total) {
      weight = 0;
    } else if (approximation.values == AttentionValues::kLog3Bit) {
      // The largest weight may be below the scale.
      int i = 0;
      while (i + 1 < kLogValues && weight >= kLogEdges[i + 1]) ++i;
      weight = kLogValue[i];
    }
  }
}

void Attend(const AttendArgs& args) {
  const StateLayout& layout = args.layout;
  std::vector<double> weights(args.states.size());
  std::vector<double> sums(layout.width);
  for (int head = 0; head < layout.heads; ++head) {
    for (size_t t = 0; t < args.states.size(); ++t) {
      weights[t] = Dot(args.query + head * layout.width, args.states[t] + head * layout.key_step, layout.width) +
                   args.bias(head, static_cast<int64_t>(t));
    }
    Weigh(args.approximation, weights);
    double total = 0;
    std::fill(sums.begin(), sums.end(), 0.0);
    for (size_t t = 0; t < args.states.size(); ++t) {
      total += weights[t];
      const float* value = args.states[t] + layout.value_begin + head * layout.value_step;
      for (int64_t j = 0; j < layout.width; ++j) sums[j] += weights[t] * value[j];
    }
    for (int64_t j = 0; j < layout.width; ++j) args.output[head * layout.width + j] = static_cast<float>(sums[j]);
    if (args.totals != nullptr) args.totals[head] = static_cast<float>(total);
  }
}

void AttendFavor(const FavorHead& p) {
  const int64_t m = static_cast<int64_t>(p.features.size()) / p.head_dim;
  const auto feature = [&p](int64_t i) { return p.features.data() + i * p.head_dim; };
  // Of each feature: sum_s phi(k_s) v_s and sum_s phi(k_s), both by exp(-top), top the greatest exponent. 1/sqrt(m)
  // cancels.
  std::vector<double> top(m), values(m * p.head_dim), totals(m);
  std::vector<double> exponents(p.tokens);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t s = 0; s < p.tokens; ++s) {
      const float* k = p.k + s * p.stride;
      exponents[s] = Dot(feature(i), k, p.head_dim) - 0.5 * Dot(k, k, p.head_dim);
    }
    top[i] = *std::max_element(exponents.begin(), exponents.end());
    for (int64_t s = 0; s < p.tokens; ++s) {
      const double phi = std::exp(exponents[s] - top[i]);
      totals[i] += phi;
      for (int64_t j = 0; j < p.head_dim; ++j) values[i * p.head_dim + j] += phi * p.v[s * p.stride + j];
    }
  }
  // |q|^2/2 cancels, too.
  std::vector<double> weights(m), sums(p.head_dim);
  for (int64_t t = 0; t < p.tokens; ++t) {
    for (int64_t i = 0; i < m; ++i) weights[i] = Dot(feature(i), p.q + t * p.stride, p.head_dim) + top[i];
    const double greatest = *std::max_element(weights.begin(), weights.end());
    std::fill(sums.begin(), sums.end(), 0.0);
    double total = 0;
    for (int64_t i = 0; i < m; ++i) {
      const double phi = std::exp(weights[i] - greatest);
      total += phi * totals[i];
      for (int64_t j = 0; j < p.head_dim; ++j) sums[j] += phi * values[i * p.head_dim + j];
    }
    for (int64_t j = 0; j < p.head_dim; ++j) p.output[t * p.output_stride + j] = static_cast<float>(sums[j] / total);
  }
}

bool SelectCandidates(const SelectRow& row, std::span<const float> logits, std::vector<Candidate>* candidates) {
  candidates->clear();
  const auto vocab = static_cast<int32_t>(logits.size());
  for (float logit : logits) {
    if (std::isnan(logit) || logit == -kMinusInfinity) return false;
  }
  if (LogSumExp(logits) == kMinusInfinity) return false;
  const std::vector<float> logprobs = LogSoftmax(logits);

  std::vector<float> values = logprobs;
  if (row.space == SelectSpace::kLogits) values.assign(logits.begin(), logits.end());
  if (!row.force.empty()) {
    std::fill(values.begin(), values.end(), kMinusInfinity);
    for (int32_t token : row.force) values[token] = 0;
  }
  for (const LogitEdit& edit : row.edits) values[edit.token] = Edited(values[edit.token], edit);
  if (row.renormalize) values = LogSoftmax(values);

  std::vector<int32_t> order(vocab);
  std::iota(order.begin(), order.end(), 0);
  const int32_t count = std::min<int32_t>(row.count, vocab);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int32_t a, int32_t b) { return values[a] > values[b] || (values[a] == values[b] && a < b); });
  for (int32_t i = 0; i < count; ++i) {
    const int32_t token = order[i];
    candidates->push_back({.token = token, .value = values[token], .logprob = logprobs[token]});
  }
  return true;
}

}  // namespace elserve::reference
