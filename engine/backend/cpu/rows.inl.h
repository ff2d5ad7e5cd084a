// Row-wise operations: norms, embeddings, the choice of candidates.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_ROWS_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_ROWS_INL_H_

#include <cmath>
#include <limits>

#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/math.inl.h"

namespace elserve::cpu {
namespace {

template <class V>
inline typename V::F LoadUpTo(const float* p, int64_t n) {
  return n >= V::kLanes ? V::Load(p) : V::LoadN(p, static_cast<int>(n));
}

template <class S>
void Norm(NormKind kind, const float* x, int64_t d, const float* gamma, const float* beta, float epsilon,
          float* residual, std::byte* state) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  float mean = 0;
  if (kind == NormKind::kLayerNorm) {
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
  const float inverse = 1.0f / std::sqrt(sum / static_cast<float>(d) + epsilon);
  auto* to = reinterpret_cast<typename S::State*>(state);
  for (i = 0; i < d; i += L) {
    const int n = static_cast<int>(d - i < L ? d - i : L);
    typename V::F y = V::Mul(V::Sub(LoadUpTo<V>(x + i, n), V::Set(mean)), V::Set(inverse));
    y = V::Mul(y, LoadUpTo<V>(gamma + i, n));
    if (beta) y = V::Add(y, LoadUpTo<V>(beta + i, n));
    if (n == L) {
      if (residual) V::Store(residual + i, y);
      S::Store(to + i, y);
    } else {
      if (residual) V::StoreN(residual + i, y, n);
      S::StoreN(to + i, y, n);
    }
  }
}

template <class S>
void Embed(const std::byte* token, float scale, const std::byte* position, int64_t d, float* out) {
  using V = typename S::Vec;
  const auto* t = reinterpret_cast<const typename S::State*>(token);
  const auto* p = reinterpret_cast<const typename S::State*>(position);
  for (int64_t i = 0; i < d; i += V::kLanes) {
    const int n = static_cast<int>(d - i < V::kLanes ? d - i : V::kLanes);
    typename V::F x = V::Mul(S::LoadN(t + i, n), V::Set(scale));
    if (p) x = V::Add(x, S::LoadN(p + i, n));
    V::StoreN(out + i, x, n);
  }
}

// Puts {token, value} into the best `count`, best first; a token comes after all lower ones, so an equal value goes
// behind.
inline void Insert(Candidate* best, int count, int32_t token, float value) {
  int at = count - 1;
  for (; at > 0 && best[at - 1].value < value; --at) best[at] = best[at - 1];
  best[at] = Candidate{token, value, 0};
}

// The best `count` of values[vocab].
template <class V>
void Best(const float* values, int vocab, int count, Candidate* best) {
  for (int i = 0; i < count; ++i) Insert(best, i + 1, i, values[i]);
  int i = count;
  for (; i < vocab && i % V::kLanes != 0; ++i) {
    if (values[i] > best[count - 1].value) Insert(best, count, i, values[i]);
  }
  for (; i + V::kLanes <= vocab; i += V::kLanes) {
    uint32_t above = V::Greater(V::Load(values + i), V::Set(best[count - 1].value));
    for (; above != 0; above &= above - 1) {
      const int at = i + __builtin_ctz(above);
      if (values[at] > best[count - 1].value) Insert(best, count, at, values[at]);
    }
  }
  for (; i < vocab; ++i) {
    if (values[i] > best[count - 1].value) Insert(best, count, i, values[i]);
  }
}

struct LogSum {
  float max;
  float log_sum;  // of exp(x - max)
  bool finite;    // no NaN and no +infinity among them
};

template <class V>
LogSum LogSumExp(const float* x, int n) {
  constexpr int L = V::kLanes;
  const int whole = n / L * L;
  float top = -std::numeric_limits<float>::infinity();
  if (whole) {
    typename V::F m = V::Set(top);
    for (int i = 0; i < whole; i += L) m = V::Max(V::Load(x + i), m);
    top = V::ReduceMax(m);
  }
  for (int i = whole; i < n; ++i) top = x[i] > top ? x[i] : top;
  typename V::F sum = V::Zero();
  for (int i = 0; i < whole; i += L) sum = V::Add(sum, Exp<V>(V::Sub(V::Load(x + i), V::Set(top))));
  double total = V::ReduceAdd(sum);
  for (int i = whole; i < n; ++i) total += std::exp(static_cast<double>(x[i]) - top);
  // A NaN is passed over by the maximum and kept by the sum.
  return {top, static_cast<float>(std::log(total)), std::isfinite(top) && std::isfinite(total)};
}

inline float Edited(float x, const LogitEdit& edit) {
  x += edit.add;
  return edit.penalty == 1.0f ? x : x < 0 ? x * edit.penalty : x / edit.penalty;
}

inline bool Before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// Only forced tokens can have a finite value: chooses among them, and fills up with the lowest other ids. A value of x
// minus `base` minus `log_sum` is its log-probability.
inline void ChooseForced(const SelectRow& row, const float* x, float base, float log_sum, int count, Candidate* out) {
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
    Candidate c{token, 0.0f, x[token] - base - log_sum};
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
    if (!is_taken(forced, token)) out[taken++] = Candidate{token, -kInfinity, x[token] - base - log_sum};
  }
}

// The best of the edited values.
template <class V>
void ChooseEdited(const SelectArgs& args, float base, float log_sum, int count) {
  const SelectRow& row = *args.row;
  float* x = args.logits;
  for (size_t i = 0; i < row.edits.size(); ++i) {
    float& value = x[row.edits[i].token];
    args.raw[i] = value;
    value = Edited(value, row.edits[i]);
  }
  Best<V>(x, args.vocab, count, args.out);
  LogSum edited{0, 0, true};
  if (row.renormalize) edited = LogSumExp<V>(x, args.vocab);
  for (int i = 0; i < count; ++i) {
    Candidate& c = args.out[i];
    float raw = c.value;
    for (size_t e = 0; e < row.edits.size(); ++e) {
      if (row.edits[e].token == c.token) raw = args.raw[e];
    }
    c.logprob = raw - base - log_sum;
    c.value = c.value - edited.max - edited.log_sum;
  }
}

template <class S>
SelectOutcome Select(const SelectArgs& args) {
  using V = typename S::Vec;
  constexpr int L = V::kLanes;
  const int vocab = args.vocab, count = args.row->count < vocab ? args.row->count : vocab;
  float* x = args.logits;
  LogSum all = LogSumExp<V>(x, vocab);
  if (!all.finite) return {0, false};
  if (args.row->space == SelectSpace::kLogProbs) {
    int i = 0;
    for (; i + L <= vocab; i += L)
      V::Store(x + i, V::Sub(V::Sub(V::Load(x + i), V::Set(all.max)), V::Set(all.log_sum)));
    for (; i < vocab; ++i) x[i] = x[i] - all.max - all.log_sum;
    all.max = all.log_sum = 0;
  }
  if (args.row->force.empty()) {
    ChooseEdited<V>(args, all.max, all.log_sum, count);
  } else {
    ChooseForced(*args.row, x, all.max, all.log_sum, count, args.out);
  }
  return {count, true};
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_ROWS_INL_H_
