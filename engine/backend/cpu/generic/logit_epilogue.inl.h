// The epilogue of the product with the vocabulary: what SelectTokens wants of a block of logits, taken while they are
// in the first-level cache. They are never stored.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LOGIT_EPILOGUE_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LOGIT_EPILOGUE_INL_H_

#include <cmath>
#include <cstdint>
#include <limits>

#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

inline bool Before(const TokenLogit& a, const TokenLogit& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}
inline bool Before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
}

// Puts x into best[taken], best first, with room for `room`; -> how many there are now.
template <class T>
int InsertBest(const T& x, T* best, int room, int taken) {
  if (taken == room && !Before(x, best[room - 1])) return taken;
  int at = taken < room ? taken++ : room - 1;
  for (; at > 0 && Before(x, best[at - 1]); --at) best[at] = best[at - 1];
  best[at] = x;
  return taken;
}

// The first of tokens[n], ascending, that is `token` or above.
inline int LowerBound(const int32_t* tokens, int n, int32_t token) {
  int begin = 0;
  while (begin < n) {
    const int middle = begin + (n - begin) / 2;
    if (tokens[middle] < token) {
      begin = middle + 1;
    } else {
      n = middle;
    }
  }
  return begin;
}

// Some rows of a task's product with one panel: a B, [rows, stride]. Written to.
struct SumBlock {
  float* sums;
  int64_t stride;
  int row, rows;  // of the task's
  int panel;
};

// Of one task: Begin, then Take for each row and panel, panels in ascending order, then End. `task.logits` holds the
// rows' states between.
//
// Exponentials are summed against a reference that is a logit itself, so that one pass does: the greatest of the task's
// first panel, until another is so far above it that its exponential might overflow.
template <class S>
class LogitEpilogue {
 public:
  explicit LogitEpilogue(const LinearBlock& task) : task_(task) {}

  void Begin() const {
    for (int row = 0; row < task_.rows; ++row) {
      RowLogits& r = task_.logits[row];
      r.apart_at = LowerBound(r.apart, r.apart_count, task_.panel_begin * kPanel);
      r.apart_next = r.apart_at < r.apart_count ? r.apart[r.apart_at] : kNoToken;
    }
  }

  void Take(const SumBlock& b) const {
    const int32_t token = b.panel * kPanel;
    const float* bias = task_.bias + token;
    for (int m = 0; m < b.rows; ++m) {
      RowLogits& r = task_.logits[b.row + m];
      float* sums = b.sums + m * b.stride;
      // There is no token behind the vocabulary.
      for (int64_t i = task_.cols - token; i < kPanel; ++i) sums[i] = kMinusInfinity;
      if (r.apart_next < token + kPanel) [[unlikely]]
        TakeApart(r, token, bias, sums);
      const F x0 = V::Add(V::Load(sums), V::Load(bias));
      const F x1 = V::Add(V::Load(sums + V::kLanes), V::Load(bias + V::kLanes));
      if (b.panel == task_.panel_begin) BeginSum(r, V::ReduceMax(V::Max(x0, x1)));
      const F limit = V::Set(r.limit);
      const uint32_t above = V::AtLeast(x0, limit) | V::AtLeast(x1, limit) << V::kLanes;
      if (above != 0) [[unlikely]]
        Keep(r, token, x0, x1, above);
      V::Store(r.lanes, V::Add(V::Load(r.lanes), V::Add(Power(r, x0), Power(r, x1))));
    }
  }

  void End() const {
    for (int row = 0; row < task_.rows; ++row) {
      const RowLogits& r = task_.logits[row];
      task_.parts[row * task_.parts_stride] = {r.reference, V::ReduceAdd(V::Load(r.lanes))};
    }
  }

 private:
  using V = typename S::Vec;
  using F = typename V::F;
  static constexpr int kPanel = 2 * V::kLanes;
  static constexpr float kLowest = std::numeric_limits<float>::lowest();
  // How far a logit may be above the reference: e^50 * kSumPanels * kPanel is far from an overflow.
  static constexpr float kSlack = 50.0f;

  // exp(x - reference). The difference comes first: digits of large logits that are the same in all of them are gone.
  static F Power(const RowLogits& r, F x) { return Exp2<V>(V::Mul(V::Sub(x, V::Set(r.reference)), V::Set(kLog2e))); }

  static float Limit(const RowLogits& r) {
    const float kept = r.taken == r.room ? r.best[r.room - 1].logit : kLowest, far = r.reference + kSlack;
    return kept < far ? kept : far;
  }

  // -infinity is no reference: minus itself it is not a number.
  static void BeginSum(RowLogits& r, float top) {
    r.reference = top > kLowest ? top : kLowest;
    r.limit = Limit(r);
    V::Store(r.lanes, V::Zero());
  }

  __attribute__((noinline)) static void TakeApart(RowLogits& r, int32_t token, const float* bias, float* sums) {
    for (; r.apart_next < token + kPanel;) {
      const int at = r.apart_next - token;
      r.apart_logits[r.apart_at] = sums[at] + bias[at];
      sums[at] = kMinusInfinity;
      r.apart_next = ++r.apart_at < r.apart_count ? r.apart[r.apart_at] : kNoToken;
    }
  }

  // Of the panel of `token`, those in the lanes `above`.
  __attribute__((noinline)) static void Keep(RowLogits& r, int32_t token, F x0, F x1, uint32_t above) {
    float x[kPanel];
    V::Store(x, x0);
    V::Store(x + V::kLanes, x1);
    for (; above != 0; above &= above - 1) {
      const int at = __builtin_ctz(above);
      if (x[at] > r.reference + kSlack) {
        V::Store(r.lanes, V::Mul(V::Load(r.lanes), V::Set(std::exp(r.reference - x[at]))));
        r.reference = x[at];
      }
      r.taken = InsertBest({token + at, x[at]}, r.best, r.room, r.taken);
    }
    r.limit = Limit(r);
  }

  const LinearBlock& task_;
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_LOGIT_EPILOGUE_INL_H_
