// Row-wise operations: norms, embeddings, the choice of candidates.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ROWS_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ROWS_INL_H_

#include <cmath>
#include <limits>

#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

template <class V>
inline typename V::F LoadUpTo(const float* p, int64_t n) {
  return n >= V::kLanes ? V::Load(p) : V::LoadN(p, static_cast<int>(n));
}

template <class S>
void Norm(const NormRow& p) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  const float* x = p.x;
  const int64_t d = p.d;
  float mean = 0;
  if (p.kind == NormKind::kLayerNorm) {
    typename V::F sum = V::Zero();
    for (int64_t i = 0; i < d; i += L) sum = V::Add(sum, LoadUpTo<V>(x + i, d - i));
    mean = V::ReduceAdd(sum) / static_cast<float>(d);
  }
  typename V::F squares = V::Zero();
  int64_t i = 0;
  for (; i + L <= d; i += L) {
    const typename V::F y = V::Sub(V::Load(x + i), V::Set(mean));
    squares = V::Fma(y, y, squares);
  }
  float sum = V::ReduceAdd(squares);
  for (; i < d; ++i) sum += (x[i] - mean) * (x[i] - mean);
  const float inverse = 1.0f / std::sqrt(sum / static_cast<float>(d) + p.epsilon);
  auto* to = reinterpret_cast<typename S::State*>(p.state);
  for (i = 0; i < d; i += L) {
    const int n = static_cast<int>(d - i < L ? d - i : L);
    typename V::F y = V::Mul(V::Sub(LoadUpTo<V>(x + i, n), V::Set(mean)), V::Set(inverse));
    y = V::Mul(y, LoadUpTo<V>(p.gamma + i, n));
    if (p.beta) y = V::Add(y, LoadUpTo<V>(p.beta + i, n));
    if (n == L) {
      if (p.residual) V::Store(p.residual + i, y);
      S::Store(to + i, y);
    } else {
      if (p.residual) V::StoreN(p.residual + i, y, n);
      S::StoreN(to + i, y, n);
    }
  }
}

template <class S>
void Embed(const EmbedRow& p) {
  using V = typename S::Vec;
  const auto* token = reinterpret_cast<const typename S::State*>(p.token);
  const auto* position = reinterpret_cast<const typename S::State*>(p.position);
  for (int64_t i = 0; i < p.d; i += V::kLanes) {
    const int n = static_cast<int>(p.d - i < V::kLanes ? p.d - i : V::kLanes);
    typename V::F x = V::Mul(S::LoadN(token + i, n), V::Set(p.scale));
    if (position) x = V::Add(x, S::LoadN(position + i, n));
    V::StoreN(p.out + i, x, n);
  }
}

// What a row's log-softmax subtracts from its logits: the maximum, then the logarithm of the sum of exp(x - max).
struct LogSum {
  float max;
  float log_sum;
  bool finite;  // no NaN and no +infinity among the logits
  float LogProb(float x) const { return x - max - log_sum; }
};

// The share of x[n] in its row's sum. Infinities and NaN are passed over by the maximum or kept by it and the sum, as
// Merge expects.
template <class V>
SumPart PartOf(const float* x, int64_t n) {
  constexpr int L = V::kLanes;
  const int64_t whole = n / L * L;
  float top = std::numeric_limits<float>::lowest();
  if (whole) {
    typename V::F m = V::Set(top);
    for (int64_t i = 0; i < whole; i += L) m = V::Max(V::Load(x + i), m);
    top = V::ReduceMax(m);
  }
  for (int64_t i = whole; i < n; ++i) top = x[i] > top ? x[i] : top;
  typename V::F sum = V::Zero();
  for (int64_t i = 0; i < whole; i += L) sum = V::Add(sum, Exp<V>(V::Sub(V::Load(x + i), V::Set(top))));
  float total = V::ReduceAdd(sum);
  for (int64_t i = whole; i < n; ++i) total += std::exp(x[i] - top);
  return {top, total};
}

inline LogSum Merge(const SumPart* parts, int64_t n) {
  float top = parts[0].max;
  for (int64_t i = 1; i < n; ++i) top = parts[i].max > top ? parts[i].max : top;
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += parts[i].sum * std::exp(static_cast<double>(parts[i].max) - top);
  // All -infinity leaves the maximum where it began.
  const bool finite = std::isfinite(top) && top > std::numeric_limits<float>::lowest() && std::isfinite(total);
  return {top, static_cast<float>(std::log(total)), finite};
}

inline bool Before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// The best so far, best first.
struct BestTokens {
  Candidate* best;
  int count;      // wanted
  int taken = 0;  // found

  void Insert(const Candidate& c) {
    if (taken == count && !Before(c, best[count - 1])) return;
    int at = taken < count ? taken++ : count - 1;
    for (; at > 0 && Before(c, best[at - 1]); --at) best[at] = best[at - 1];
    best[at] = c;
  }
};

// Collects the best of logits[vocab], each minus `shift`. NaN stands for a token that is not in the running.
template <class V>
void CollectBest(const float* logits, int vocab, const LogSum& shift, BestTokens* best) {
  const auto insert = [&](int i) {
    if (const float value = shift.LogProb(logits[i]); value == value) best->Insert({i, value, 0});
  };
  int i = 0;
  for (; i < vocab && (best->taken < best->count || i % V::kLanes != 0); ++i) insert(i);
  for (; i + V::kLanes <= vocab; i += V::kLanes) {
    const typename V::F value = V::Sub(V::Sub(V::Load(logits + i), V::Set(shift.max)), V::Set(shift.log_sum));
    // A token comes after all lower ones: an equal value is not better.
    uint32_t above = V::Greater(value, V::Set(best->best[best->count - 1].value));
    for (; above != 0; above &= above - 1) insert(i + __builtin_ctz(above));
  }
  for (; i < vocab; ++i) insert(i);
}

inline float Edited(float x, const LogitEdit& edit) {
  constexpr float kBanned = -std::numeric_limits<float>::infinity();
  if (edit.ban || x == kBanned) return kBanned;
  x += edit.add;
  return x < 0 ? x * edit.negative : x * edit.positive;
}

// Only forced tokens can have a finite value: chooses among them, and fills up with the lowest other ids.
inline void ChooseForced(const SelectRow& row, const float* logits, const LogSum& all, int count, Candidate* out) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto is_taken = [out](int taken, int32_t token) {
    for (int i = 0; i < taken; ++i) {
      if (out[i].token == token) return true;
    }
    return false;
  };
  int taken = 0;
  float total = 0;
  for (const int32_t token : row.force) {
    Candidate c{token, 0.0f, all.LogProb(logits[token])};
    for (const LogitEdit& edit : row.edits) {
      if (edit.token == token) c.value = Edited(c.value, edit);
    }
    if (c.value == -kInfinity || is_taken(taken, token)) continue;
    total += std::exp(c.value);
    int at = taken < count ? taken++ : count;
    for (; at > 0 && Before(c, out[at - 1]); --at) {
      if (at < count) out[at] = out[at - 1];
    }
    if (at < count) out[at] = c;
  }
  const float shift = row.renormalize ? std::log(total) : 0;
  for (int i = 0; i < taken; ++i) out[i].value -= shift;
  const int forced = taken;
  for (int32_t token = 0; taken < count; ++token) {
    if (!is_taken(forced, token)) out[taken++] = Candidate{token, -kInfinity, all.LogProb(logits[token])};
  }
}

// Log-softmax once more over all values, edited ones included: takes its maximum and log-sum from the values in `best`.
template <class V>
void Renormalize(const SelectArgs& args, const LogSum& shift, const float* edited, BestTokens* best) {
  constexpr int L = V::kLanes;
  const float top = best->best[0].value;
  if (top == -std::numeric_limits<float>::infinity()) return;  // every token is banned, and stays so
  const auto minus = V::Set(-std::numeric_limits<float>::infinity());
  typename V::F sum = V::Zero();
  int i = 0;
  for (; i + L <= args.vocab; i += L) {
    const typename V::F value = V::Sub(V::Sub(V::Load(args.logits + i), V::Set(shift.max)), V::Set(shift.log_sum));
    // Edited tokens are NaN here, which gives way to the other operand.
    sum = V::Add(sum, Exp<V>(V::Max(V::Sub(value, V::Set(top)), minus)));
  }
  double total = V::ReduceAdd(sum);
  for (; i < args.vocab; ++i) {
    if (const float value = shift.LogProb(args.logits[i]); value == value) total += std::exp(value - top);
  }
  for (size_t e = 0; e < args.row->edits.size(); ++e) total += std::exp(edited[e] - top);
  const auto log_sum = static_cast<float>(std::log(total));
  for (int j = 0; j < best->taken; ++j) best->best[j].value = best->best[j].value - top - log_sum;
}

// The best of the edited values.
template <class V>
void ChooseEdited(const SelectArgs& args, const LogSum& all, int count) {
  const SelectRow& row = *args.row;
  const LogSum shift = row.space == SelectSpace::kLogProbs ? all : LogSum{0, 0, true};
  float* raw = args.raw;  // [edits]
  for (size_t e = 0; e < row.edits.size(); ++e) {
    float& x = args.logits[row.edits[e].token];
    raw[e] = x;
    x = std::numeric_limits<float>::quiet_NaN();
  }
  BestTokens best{args.out, count};
  CollectBest<V>(args.logits, args.vocab, shift, &best);
  float* edited = raw + row.edits.size();
  for (size_t e = 0; e < row.edits.size(); ++e) {
    edited[e] = Edited(shift.LogProb(raw[e]), row.edits[e]);
    best.Insert({row.edits[e].token, edited[e], 0});
  }
  if (row.renormalize) Renormalize<V>(args, shift, edited, &best);
  for (size_t e = 0; e < row.edits.size(); ++e) args.logits[row.edits[e].token] = raw[e];
  for (int i = 0; i < count; ++i) args.out[i].logprob = all.LogProb(args.logits[args.out[i].token]);
}

template <class S>
SelectOutcome Select(const SelectArgs& args) {
  const LogSum all = Merge(args.parts, args.parts_count);
  if (!all.finite) return {0, false};
  const int count = args.row->count < args.vocab ? args.row->count : args.vocab;
  if (args.row->force.empty()) {
    ChooseEdited<typename S::Vec>(args, all, count);
  } else {
    ChooseForced(*args.row, args.logits, all, count, args.out);
  }
  return {count, true};
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_ROWS_INL_H_
