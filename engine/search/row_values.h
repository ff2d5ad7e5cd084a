// A row's values on the host, where the device does not rank: all of them, after all of its rules.
#ifndef ELSERVE_ENGINE_SEARCH_ROW_VALUES_H_
#define ELSERVE_ENGINE_SEARCH_ROW_VALUES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/decoding.h"
#include "engine/search/rules.h"

namespace elserve {

// Of one row after the other, in memory taken once.
class RowValues {
 public:
  // Room for a vocabulary.
  void Reserve(int vocab) { values_.reserve(static_cast<size_t>(vocab)); }

  // The values of a row by its rules (RowRules::whole), up to but without the last one, `renormalize`. `logits` are
  // read later as well and have to outlive what is asked of this. `before`: edits that come before the row's, one after
  // the other; bans are none of them. False: some logit is not a number or +infinity, or all are -infinity, and
  // remove_invalid does not hold.
  bool Set(std::span<const float> logits, const RowRules& rules, std::span<const LogitEdit> before = {});
  // Log-softmax of the values, unless none is above -infinity.
  void Renormalize();

  std::span<const float> values() const { return values_; }
  // Log-softmax of the unedited logits.
  float LogProb(int32_t token) const { return logits_[static_cast<size_t>(token)] - greatest_ - log_sum_; }
  // The `count` best by value, the lower token first among equals; fewer only if the vocabulary is smaller. `best` is
  // overwritten.
  void Best(int count, std::vector<Candidate>* best) const;

 private:
  // What log-softmax subtracts. False: see Set.
  bool Sum();
  void TakeInvalid(bool log_probs);

  std::span<const float> logits_;
  float greatest_ = 0, log_sum_ = 0;
  std::vector<float> values_;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_ROW_VALUES_H_
