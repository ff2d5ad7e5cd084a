#include "engine/search/distribution.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/search/row_sums.h"

namespace elserve {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Into so many equal parts LastOf cuts the range of the keys.
constexpr size_t kBins = 2048;

}  // namespace

void Distribution::Reserve(int vocab) {
  const auto size = static_cast<size_t>(vocab);
  tokens_.reserve(size);
  values_.reserve(size);
  weights_.reserve(size);
  keys_.reserve(size);
  bins_of_.reserve(size);
  bins_.reserve(kBins);
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
  ExpOfDifferences(values_, greatest_, &weights_);
  SumUp();
}

void Distribution::SumUp() { total_ = SumOf(weights_); }

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

// Of all tokens only those in one bin are put in order: that in which the mass is reached.
Distribution::Ranked Distribution::LastOf(double mass, std::span<const float> weights) {
  // Half of the keys, so that the range is a number.
  const float least = LeastOf(keys_) / 2, range = GreatestOf(keys_) / 2 - least;
  const float scale = range > 1e-30f ? static_cast<float>(kBins - 1) / range : 0;  // else one bin, and a finite scale
  bins_of_.resize(keys_.size());
  for (size_t i = 0; i < keys_.size(); ++i) bins_of_[i] = static_cast<int32_t>((keys_[i] / 2 - least) * scale);
  const auto weight = [weights](size_t i) { return weights.empty() ? 1.0f : weights[i]; };
  bins_.assign(kBins, 0);
  if (weights.empty()) {
    for (const int32_t bin : bins_of_) bins_[static_cast<size_t>(bin)] += 1;
  } else {
    for (size_t i = 0; i < weights.size(); ++i) bins_[static_cast<size_t>(bins_of_[i])] += weights[i];
  }
  size_t reached = 0;
  double before = 0;  // what the bins before have
  while (reached + 1 < kBins && before + bins_[reached] < mass) before += bins_[reached++];
  // Where rounding leaves the mass behind all of them, the last token is it.
  while (reached > 0 && bins_[reached] == 0) before -= bins_[--reached];
  ranked_.clear();
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (bins_of_[i] == static_cast<int32_t>(reached)) ranked_.push_back({keys_[i], tokens_[i], weight(i)});
  }
  size_t begin = 0, end = ranked_.size();
  // Everything before `begin` is kept and has less than the mass, everything from `end` on is not kept.
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

void Distribution::KeepUpTo(const Ranked& last) {
  Keep([this, last](size_t i) { return !(last < Ranked{keys_[i], tokens_[i], 0}); });
}

void Distribution::RankByValue() {
  keys_.resize(values_.size());
  for (size_t i = 0; i < values_.size(); ++i) keys_[i] = -values_[i];
}

// TopHLogitsWarper: among the 100 most likely, the first ones whose share of the entropy is at most top_h.
void Distribution::TopH(double top_h) {
  constexpr size_t kMost = 100;
  RankByValue();
  if (tokens_.size() > kMost) {
    KeepUpTo(LastOf(kMost, {}));
    RankByValue();
  }
  ranked_.clear();
  for (size_t i = 0; i < tokens_.size(); ++i) ranked_.push_back({keys_[i], tokens_[i], weights_[i]});
  std::sort(ranked_.begin(), ranked_.end());
  const auto term = [this](const Ranked& token) {
    const double share = token.weight / total_;
    return share > 0 ? -share * std::log(share) : 0;
  };
  double entropy = 0;
  for (const Ranked& token : ranked_) entropy += term(token);
  double sum = term(ranked_[0]);
  size_t kept = 1;
  while (kept < ranked_.size() && ranked_[kept].weight > 0 && (sum += term(ranked_[kept])) <= entropy * top_h) ++kept;
  KeepUpTo(ranked_[kept - 1]);
}

// TopKLogitsWarper: those as likely as the k-th as well.
void Distribution::TopK(int top_k) {
  if (static_cast<size_t>(top_k) >= tokens_.size()) return;
  RankByValue();
  const float least = -LastOf(top_k, {}).key;
  Keep([this, least](size_t i) { return values_[i] >= least; });
}

// TopPLogitsWarper: the fewest of the most likely that have this mass together; at least one.
void Distribution::TopP(double top_p) {
  RankByValue();
  KeepUpTo(LastOf(top_p * total_, weights_));
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
  keys_.resize(values_.size());
  for (size_t i = 0; i < values_.size(); ++i) keys_[i] = static_cast<float>(std::abs(typical - values_[i]));
  const float farthest = LastOf(typical_p * total_, weights_).key;
  Keep([this, farthest](size_t i) { return keys_[i] <= farthest; });
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
