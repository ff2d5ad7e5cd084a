// A row's best tokens, from what LogitEpilogue kept of its logits, or from all of them.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_SELECT_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_SELECT_INL_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "engine/backend/cpu/generic/logit_epilogue.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// The sum of exp(logit) over the tokens that do not stand apart: exp(reference) * sum.
struct RestSum {
  float reference;
  double sum;
};

// Parts in order: the bits are the same whichever threads made them.
inline RestSum Merge(const SumPart* parts, int64_t n) {
  float top = parts[0].reference;
  for (int64_t i = 1; i < n; ++i) top = parts[i].reference > top ? parts[i].reference : top;
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += parts[i].sum * std::exp(static_cast<double>(parts[i].reference) - top);
  return {top, sum};
}

// What a row's log-softmax subtracts from its logits: the maximum, then the logarithm of the sum of exp(x - max).
struct LogSum {
  float max;
  float log_sum;
  float LogProb(float x) const { return x - max - log_sum; }
};

// What all threads kept of a row.
struct Kept {
  TokenLogit best[kMostLogits];
  int taken = 0;
  RestSum rest;
  LogSum all;
  bool finite;  // no NaN and no +infinity among the logits, and one that is not -infinity
};

inline Kept Gather(const SelectArgs& args) {
  Kept kept;
  const RowLogits& row = *args.kept;
  for (int thread = 0; thread < args.threads; ++thread) {
    const RowLogits& own = args.kept[thread * args.kept_stride];
    for (int i = 0; i < own.taken; ++i) kept.taken = InsertBest(own.best[i], kept.best, row.room, kept.taken);
  }
  kept.rest = Merge(args.parts, args.parts_count);
  float max = kept.taken > 0 ? kept.best[0].logit : -std::numeric_limits<float>::infinity();
  for (int i = 0; i < row.apart_count; ++i) max = row.apart_logits[i] > max ? row.apart_logits[i] : max;
  // Added, and never taken away: one token that stands apart may have nearly all of the sum.
  double total = kept.rest.sum * std::exp(static_cast<double>(kept.rest.reference) - max);
  for (int i = 0; i < row.apart_count; ++i) total += std::exp(static_cast<double>(row.apart_logits[i]) - max);
  kept.all = {max, static_cast<float>(std::log(total))};
  kept.finite = std::isfinite(max) && std::isfinite(total);
  return kept;
}

inline float Edited(float x, const LogitEdit& edit) {
  constexpr float kBanned = -std::numeric_limits<float>::infinity();
  if (edit.ban || x == kBanned) return kBanned;
  x += edit.add;
  return x < 0 ? x * edit.negative : x * edit.positive;
}

// How a row's logits become the values that tokens are ranked by. In float32 two logits may have one value.
struct Values {
  LogSum first = {0, 0};   // over the logits; kLogits: nothing
  LogSum second = {0, 0};  // over the edited values, where the row renormalizes
  float Of(float logit) const { return second.LogProb(first.LogProb(logit)); }
  float Of(float logit, const LogitEdit& edit) const { return second.LogProb(Edited(first.LogProb(logit), edit)); }
};

inline Values ValuesOf(const SelectRow& row, const float* edit_logits, const Kept& kept) {
  Values values;
  if (row.space == SelectSpace::kLogProbs) values.first = kept.all;
  if (!row.renormalize) return values;
  float max = kept.taken > 0 ? values.Of(kept.best[0].logit) : kMinusInfinity;
  for (size_t e = 0; e < row.edits.size(); ++e) {
    const float value = values.Of(edit_logits[e], row.edits[e]);
    max = value > max ? value : max;
  }
  if (max == kMinusInfinity) return values;  // every token is banned, and stays so
  double total = kept.rest.sum *
                 std::exp(static_cast<double>(kept.rest.reference) - values.first.max - values.first.log_sum - max);
  for (size_t e = 0; e < row.edits.size(); ++e) {
    total += std::exp(static_cast<double>(values.Of(edit_logits[e], row.edits[e])) - max);
  }
  values.second = {max, static_cast<float>(std::log(total))};
  return values;
}

// Fills out[count] behind the `taken` tokens above -infinity: the others all have this value, the lower id is first.
inline void FillUp(const SelectArgs& args, const Kept& kept, int taken, int count) {
  const RowLogits& row = *args.kept;
  const auto logit = [&](int32_t token) {
    const int at = LowerBound(row.apart, row.apart_count, token);
    if (at < row.apart_count && row.apart[at] == token) return row.apart_logits[at];
    for (int i = 0; i < kept.taken; ++i) {
      if (kept.best[i].token == token) return kept.best[i].logit;
    }
    return kMinusInfinity;
  };
  const int above = taken;
  for (int32_t token = 0; taken < count; ++token) {
    bool is_above = false;
    for (int i = 0; i < above; ++i) is_above |= args.out[i].token == token;
    if (!is_above) args.out[taken++] = {token, kMinusInfinity, kept.all.LogProb(logit(token))};
  }
}

// Only forced tokens can have a finite value. The lowest `count` ids stand apart as well: others fill up from them.
inline void ChooseForced(const SelectArgs& args, const Kept& kept, int count) {
  const SelectRow& row = *args.row;
  const RowLogits& apart = *args.kept;
  Candidate* out = args.out;
  int taken = 0;
  float total = 0;
  for (int i = 0; i < apart.apart_count; ++i) {
    Candidate c{apart.apart[i], 0.0f, kept.all.LogProb(apart.apart_logits[i])};
    bool forced = false;
    for (const int32_t token : row.force) forced |= token == c.token;
    for (const LogitEdit& edit : row.edits) {
      if (edit.token == c.token) c.value = Edited(c.value, edit);
    }
    if (!forced || c.value == -std::numeric_limits<float>::infinity()) continue;
    total += std::exp(c.value);
    taken = InsertBest(c, out, count, taken);
  }
  const float shift = row.renormalize ? std::log(total) : 0;
  for (int i = 0; i < taken; ++i) out[i].value -= shift;
  FillUp(args, kept, taken, count);
}

// From the best that were kept, and the edited tokens. False: what was not kept may be as good.
inline bool ChooseKept(const SelectArgs& args, const Kept& kept, const Values& values, int count) {
  const SelectRow& row = *args.row;
  int taken = 0;
  const auto insert = [&](const Candidate& c) {
    if (c.value > kMinusInfinity) taken = InsertBest(c, args.out, count, taken);
  };
  for (int i = 0; i < kept.taken; ++i) {
    const TokenLogit& best = kept.best[i];
    insert({best.token, values.Of(best.logit), kept.all.LogProb(best.logit)});
  }
  for (size_t e = 0; e < row.edits.size(); ++e) {
    const float logit = args.kept->apart_logits[e];
    insert({row.edits[e].token, values.Of(logit, row.edits[e]), kept.all.LogProb(logit)});
  }
  // Tokens that were not kept have no greater value than the last one that was.
  if (kept.taken == args.kept->room && !RanksLogits(row)) {
    if (taken < count || values.Of(kept.best[kept.taken - 1].logit) >= args.out[count - 1].value) return false;
  }
  FillUp(args, kept, taken, count);
  return true;
}

// From all of the row's logits, and the edited tokens.
template <class V>
void ChooseFromAll(const SelectArgs& args, const Kept& kept, const Values& values, int count) {
  const SelectRow& row = *args.row;
  // NaN stands for a token that is not in the running.
  for (const LogitEdit& edit : row.edits) args.logits[edit.token] = std::numeric_limits<float>::quiet_NaN();
  int taken = 0;
  const auto insert = [&](int32_t token) {
    const float logit = args.logits[token], value = values.Of(logit);
    if (value == value) taken = InsertBest({token, value, kept.all.LogProb(logit)}, args.out, count, taken);
  };
  int i = 0;
  for (; i < args.vocab && (taken < count || i % V::kLanes != 0); ++i) insert(i);
  const auto minus = [](typename V::F x, const LogSum& sum) {
    return V::Sub(V::Sub(x, V::Set(sum.max)), V::Set(sum.log_sum));
  };
  for (; i + V::kLanes <= args.vocab; i += V::kLanes) {
    const typename V::F value = minus(minus(V::Load(args.logits + i), values.first), values.second);
    // A token comes after all lower ones: an equal value is not better.
    uint32_t above = V::Greater(value, V::Set(args.out[count - 1].value));
    for (; above != 0; above &= above - 1) insert(i + __builtin_ctz(above));
  }
  for (; i < args.vocab; ++i) insert(i);
  for (size_t e = 0; e < row.edits.size(); ++e) {
    const float logit = args.kept->apart_logits[e];
    taken = InsertBest({row.edits[e].token, values.Of(logit, row.edits[e]), kept.all.LogProb(logit)}, args.out, count,
                       taken);
  }
}

template <class S>
SelectOutcome Select(const SelectArgs& args) {
  const Kept kept = Gather(args);
  if (!kept.finite) return {.finite = false};
  const SelectRow& row = *args.row;
  const int count = row.count < args.vocab ? row.count : args.vocab;
  if (!row.force.empty()) {
    ChooseForced(args, kept, count);
    return {.count = count};
  }
  const Values values = ValuesOf(row, args.kept->apart_logits, kept);
  if (args.logits) {
    ChooseFromAll<typename S::Vec>(args, kept, values, count);
  } else if (!ChooseKept(args, kept, values, count)) {
    return {.needs_logits = true};
  }
  return {.count = count};
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_SELECT_INL_H_
