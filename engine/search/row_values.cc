#include "engine/search/row_values.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/search/row_sums.h"

namespace elserve {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kGreatest = std::numeric_limits<float>::max();

// As the device does it.
void Apply(const LogitEdit& edit, std::vector<float>* values) {
  float& x = (*values)[static_cast<size_t>(edit.token)];
  if (edit.ban || x == -kInfinity) {
    x = -kInfinity;
    return;
  }
  x += edit.add;
  x *= x < 0 ? edit.negative : edit.positive;
}

}  // namespace

bool RowValues::Sum() {
  if (!AllNumbers(logits_)) return false;
  greatest_ = GreatestOf(logits_);
  if (greatest_ == -kInfinity) return false;
  log_sum_ = static_cast<float>(std::log(SumOfExp(logits_, greatest_)));
  return true;
}

// What torch makes of logits that are no numbers: log_softmax spoils the whole row, and nothing else does.
void RowValues::TakeInvalid(bool log_probs) {
  greatest_ = log_sum_ = 0;
  if (log_probs) std::fill(values_.begin(), values_.end(), std::numeric_limits<float>::quiet_NaN());
}

bool RowValues::Set(std::span<const float> logits, const RowRules& rules, std::span<const LogitEdit> before) {
  logits_ = logits;
  values_.assign(logits.begin(), logits.end());
  if (Sum()) {
    if (rules.log_probs) {
      for (float& value : values_) value = value - greatest_ - log_sum_;
    }
  } else if (rules.remove_invalid) {
    TakeInvalid(rules.log_probs);
  } else {
    return false;
  }
  for (const LogitEdit& edit : before) Apply(edit, &values_);
  if (!rules.force.empty()) {
    std::fill(values_.begin(), values_.end(), -kInfinity);
    for (const int32_t token : rules.force) values_[static_cast<size_t>(token)] = 0;
  }
  for (const LogitEdit& edit : rules.edits) Apply(edit, &values_);
  if (rules.remove_invalid) {
    // InfNanRemoveLogitsProcessor.
    for (float& value : values_) value = std::isnan(value) ? 0 : std::clamp(value, -kGreatest, kGreatest);
    for (const LogitEdit& edit : rules.late_edits) {
      Apply(edit, &values_);
      float& value = values_[static_cast<size_t>(edit.token)];
      if (value > kGreatest) value = kGreatest;
    }
  }
  return true;
}

void RowValues::Renormalize() {
  const float greatest = GreatestOf(values_);
  if (greatest == -kInfinity) return;
  const auto log_sum = static_cast<float>(std::log(SumOfExp(values_, greatest)));
  for (float& value : values_) value = value - greatest - log_sum;
}

void RowValues::Best(int count, std::vector<Candidate>* best) const {
  best->clear();
  const auto most = std::min(static_cast<size_t>(count), values_.size());
  for (size_t token = 0; token < values_.size(); ++token) {
    const float value = values_[token];
    if (best->size() == most && !(value > best->back().value)) continue;
    if (best->size() == most) best->pop_back();
    auto place = best->end();
    while (place != best->begin() && value > (place - 1)->value) --place;
    best->insert(place, {.token = static_cast<int32_t>(token), .value = value, .logprob = 0});
  }
  for (Candidate& candidate : *best) candidate.logprob = LogProb(candidate.token);
}

}  // namespace elserve
