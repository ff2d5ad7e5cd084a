#include "engine/search/distribution.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/search/row_sums.h"

namespace elserve {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

}  // namespace

void Distribution::Reserve(int vocab) {
  const auto size = static_cast<size_t>(vocab);
  tokens_.reserve(size);
  values_.reserve(size);
  weights_.reserve(size);
  ranked_.reserve(size);
}

void Distribution::Load(std::span<const float> values) {
  tokens_.resize(values.size());
  values_.resize(values.size());
  size_t count = 0;
  for (size_t token = 0; token < values.size(); ++token) {
    tokens_[count] = static_cast<int32_t>(token);
    values_[count] = values[token];
    count += values[token] > kMinusInfinity ? 1 : 0;
  }
  if (count == 0) tokens_[count] = 0, values_[count] = 0, count = 1;
  tokens_.resize(count);
  values_.resize(count);
}

// In the order of tokens: that of nearly equal values differs between devices.
void Distribution::Load(std::span<const Candidate> candidates) {
  ranked_.clear();
  for (const Candidate& candidate : candidates) ranked_.push_back({candidate.value, candidate.token, 0});
  std::sort(ranked_.begin(), ranked_.end(), [](const Ranked& a, const Ranked& b) { return a.token < b.token; });
  tokens_.clear();
  values_.clear();
  for (const Ranked& candidate : ranked_) {
    if (candidate.key > kMinusInfinity) Add(candidate.token, candidate.key);
  }
  if (tokens_.empty()) Add(ranked_.front().token, 0);
}

void Distribution::Weigh(float temperature) {
  // Bounded so that the difference of two is a number too.
  constexpr float kMost = std::numeric_limits<float>::max() / 2;
  for (float& value : values_) value = std::clamp(value / temperature, -kMost, kMost);
  greatest_ = GreatestOf(values_);
  weights_.resize(values_.size());
  for (size_t i = 0; i < values_.size(); ++i) weights_[i] = ExpOfNegative(values_[i] - greatest_);
  SumUp();
}

void Distribution::SumUp() {
  total_ = 0;
  for (const float weight : weights_) total_ += weight;
}

template <typename Stays>
void Distribution::Keep(const Stays& stays) {
  size_t kept = 0;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (!stays(i)) continue;
    tokens_[kept] = tokens_[i];
    values_[kept] = values_[i];
    weights_[kept] = weights_[i];
    ++kept;
  }
  tokens_.resize(kept);
  values_.resize(kept);
  weights_.resize(kept);
  SumUp();
}

double Distribution::Entropy() const {
  // -sum p log p, where log p = value - greatest - log(total).
  double sum = 0;
  for (size_t i = 0; i < values_.size(); ++i) sum += weights_[i] * static_cast<double>(values_[i] - greatest_);
  return std::log(total_) - sum / total_;
}

Distribution::Ranked Distribution::LastOf(double mass) {
  size_t begin = 0, end = ranked_.size();
  // Everything before `begin` is kept and has less than the mass, everything from `end` on is not kept.
  double before = 0;
  while (end - begin > 1) {
    const size_t middle = begin + (end - begin) / 2;
    const auto at = [this](size_t i) { return ranked_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::nth_element(at(begin), at(middle), at(end));
    double half = 0;
    for (size_t i = begin; i < middle; ++i) half += ranked_[i].weight;
    if (before + half >= mass) {
      end = middle;
    } else {
      before += half;
      begin = middle;
    }
  }
  return ranked_[begin];
}

// TopHLogitsWarper: among the 100 most likely, the first ones whose share of the entropy is at most top_h.
void Distribution::TopH(double top_h) {
  constexpr size_t kMost = 100;
  ranked_.clear();
  for (size_t i = 0; i < tokens_.size(); ++i) ranked_.push_back({-values_[i], tokens_[i], weights_[i]});
  const size_t most = std::min(kMost, ranked_.size());
  std::partial_sort(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(most), ranked_.end());
  ranked_.resize(most);
  double total = 0, entropy = 0;
  for (const Ranked& token : ranked_) total += token.weight;
  const auto term = [total](const Ranked& token) {
    const double share = token.weight / total;
    return share > 0 ? -share * std::log(share) : 0;
  };
  for (const Ranked& token : ranked_) entropy += term(token);
  double sum = term(ranked_[0]);
  size_t kept = 1;
  while (kept < most && ranked_[kept].weight > 0 && (sum += term(ranked_[kept])) <= entropy * top_h) ++kept;
  const Ranked last = ranked_[kept - 1];
  Keep([&](size_t i) { return !(last < Ranked{-values_[i], tokens_[i], 0}); });
}

// TopKLogitsWarper: those as likely as the k-th as well.
void Distribution::TopK(int top_k) {
  const auto k = static_cast<size_t>(top_k);
  if (k >= tokens_.size()) return;
  ranked_.clear();
  for (size_t i = 0; i < tokens_.size(); ++i) ranked_.push_back({-values_[i], tokens_[i], 0});
  std::nth_element(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(k - 1), ranked_.end());
  const float least = -ranked_[k - 1].key;
  Keep([this, least](size_t i) { return values_[i] >= least; });
}

// TopPLogitsWarper: the fewest of the most likely that have this mass together; at least one.
void Distribution::TopP(double top_p) {
  // Tokens below this are together less likely than what may be left out.
  const double least = (1 - top_p) * total_ / static_cast<double>(tokens_.size());
  ranked_.clear();
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (weights_[i] >= least) ranked_.push_back({-values_[i], tokens_[i], weights_[i]});
  }
  const Ranked last = LastOf(top_p * total_);
  Keep([&](size_t i) { return !(last < Ranked{-values_[i], tokens_[i], 0}); });
}

// MinPLogitsWarper.
void Distribution::MinP(double min_p) {
  const double least = min_p * *std::max_element(weights_.begin(), weights_.end());
  Keep([this, least](size_t i) { return weights_[i] >= least; });
}

// TypicalLogitsWarper: those whose surprise is closest to the entropy, until they have this mass together, and all that
// are as close as the last one.
void Distribution::TypicalP(double typical_p) {
  const double typical = greatest_ + std::log(total_) - Entropy();  // the value of a token that surprises as much
  const auto distance = [this, typical](size_t i) { return static_cast<float>(std::abs(typical - values_[i])); };
  ranked_.clear();
  for (size_t i = 0; i < tokens_.size(); ++i) ranked_.push_back({distance(i), tokens_[i], weights_[i]});
  const float farthest = LastOf(typical_p * total_).key;
  Keep([&](size_t i) { return distance(i) <= farthest; });
}

// EpsilonLogitsWarper, EtaLogitsWarper: those at least so likely, and the most likely.
void Distribution::Cutoff(double least) {
  const float greatest = GreatestOf(values_);
  Keep([&](size_t i) { return weights_[i] / total_ >= least || values_[i] >= greatest; });
}

void Distribution::Warp(const Sampling& sampling) {
  Weigh(sampling.temperature);
  if (sampling.top_h > 0) TopH(sampling.top_h);
  if (sampling.top_k > 0) TopK(sampling.top_k);
  if (sampling.top_p < 1) TopP(sampling.top_p);
  if (sampling.min_p > 0) MinP(sampling.min_p);
  if (sampling.typical_p < 1) TypicalP(sampling.typical_p);
  if (sampling.epsilon_cutoff > 0) Cutoff(sampling.epsilon_cutoff);
  if (sampling.eta_cutoff > 0) {
    const double eta = sampling.eta_cutoff;
    Cutoff(std::min(eta, std::sqrt(eta) * std::exp(-Entropy())));
  }
}

int32_t Distribution::Draw(double place) const {
  double left = place * total_;
  size_t last = 0;  // that could be drawn: rounding may leave something behind all shares
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (weights_[i] <= 0) continue;
    last = i;
    left -= weights_[i];
    if (left < 0) break;
  }
  return tokens_[last];
}

}  // namespace elserve
