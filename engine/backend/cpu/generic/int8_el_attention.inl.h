// EL-attention over states of 8 bits: tokens are rows and queries are columns, as in el_attention.inl.h, and both
// products are of integers.
//
// A token's state is its scale s_t times its integers. Queries are rounded to integers as well, and weights to 254ths
// of the largest one of their strip. What is rounded off a weight goes to the next token's, or the many small weights
// of a long document would all be lost beside a large one: what all of a strip come to stays, but for half a 254th. As
// the sum is of w_t s_t times integers, the softmax is made of w_t s_t, and it is these that are rounded: in powers of
// two they are the scores plus log2(s_t). What a query's weights come to is summed up of what they were rounded to.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_EL_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_EL_ATTENTION_INL_H_

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/generic/el_attention.inl.h"
#include "engine/backend/cpu/generic/int8_units.inl.h"
#include "engine/backend/cpu/generic/math.inl.h"
#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/generic/product.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// What is kept of a state: its integers in whole cache lines, zeros behind the last, and then this.
struct Int8State {
  float scale;
  float log2;     // of the scale
  float inverse;  // of the scale
  int32_t sum;    // of the integers
};

inline int64_t IntegerBytes(int64_t d) { return RoundUp(d, 64); }
inline int64_t KeptInt8Bytes(int64_t d) { return IntegerBytes(d) + static_cast<int64_t>(sizeof(Int8State)); }
// A page: its tokens' integers, then what else there is of each.
inline int64_t Int8PageBytes(int64_t d) { return kPageTokens * KeptInt8Bytes(d); }

// Of a state of zeros: about that of normed numbers, for weights are rounded in proportion to scales.
inline constexpr float kZeroScale = 4 / kMostInt8;

template <class S>
void KeepInt8(const std::byte* states, int64_t d, std::byte* kept) {
  Int8State state;
  state.scale = ScaleOf(ExtentOf<S>(states, d), kZeroScale);
  state.log2 = std::log2(state.scale);
  state.inverse = 1.0f / state.scale;
  auto* integers = reinterpret_cast<int8_t*>(kept);
  RoundRow<S, 0>(states, d, state.scale, reinterpret_cast<uint8_t*>(integers));
  std::memset(integers + d, 0, static_cast<size_t>(IntegerBytes(d) - d));
  state.sum = 0;
  for (int64_t i = 0; i < d; ++i) state.sum += integers[i];
  std::memcpy(kept + IntegerBytes(d), &state, sizeof(state));
}

template <class S>
void RestoreInt8(const std::byte* kept, int64_t d, std::byte* states) {
  Int8State state;
  std::memcpy(&state, kept + IntegerBytes(d), sizeof(state));
  const auto* integers = reinterpret_cast<const int8_t*>(kept);
  constexpr int64_t kPart = 64;
  float numbers[kPart];
  for (int64_t i = 0; i < d; i += kPart) {
    const int64_t n = d - i < kPart ? d - i : kPart;
    for (int64_t j = 0; j < n; ++j) numbers[j] = state.scale * static_cast<float>(integers[i + j]);
    ToState<S>(numbers, n, states + i * static_cast<int64_t>(sizeof(typename S::State)));
  }
}

// What stands behind the last token may be anything: its weights are zeros.
inline void StoreInt8Page(const StatePage& p) {
  const int64_t bytes = IntegerBytes(p.d);
  std::byte* const states = p.page + kPageTokens * bytes;
  for (int t = 0; t < p.tokens; ++t) {
    std::memcpy(p.page + t * bytes, p.rows[t], static_cast<size_t>(bytes));
    std::memcpy(states + t * static_cast<int64_t>(sizeof(Int8State)), p.rows[t] + bytes, sizeof(Int8State));
  }
}

// Signed rows by unsigned columns: states by queries.
template <class V>
struct SignedRows : Int8Units<V> {
  static typename V::I Dot(typename V::I sum, typename V::I a, typename V::I b) { return V::DotInt8(sum, b, a); }
};

// Added to a query's integers, which makes them unsigned.
inline constexpr int kQueryOffset = 128;

// Of 254, the greatest weight: with what another one leaves it has to stay below 255.5. A weight of 0 stays 0, for what
// is left is one half at most.
inline constexpr float kLog2Most = 7.98868468677217f;

// Columns of a strip that are zipped at once: four rows of bytes to four vectors of units.
template <class V>
inline constexpr int kZippedColumns = 4 * V::kLanes;

struct Int8ElScratch {
  float* sums;        // [queries, width], columns in Zip4's order
  uint32_t* scores;   // [kStripTokens, queries]: sums of integers, then float32 in powers of two
  uint32_t* weights;  // [kStripTokens / 4, queries]: four tokens a unit
  uint32_t* zipped;   // [kStripTokens / 4, kZippedColumns]: likewise
  uint32_t* q;        // [units, queries]
  // [queries]: the maximum so far; the sum of weights; what scales the old sums, and a strip's; the scale of integers.
  float *m, *l, *old, *strip, *scale;
};

template <class V>
int64_t Int8ElScratchFloats(int64_t d) {
  const int64_t width = RoundUp(d, kZippedColumns<V>);
  return kElQueries * (width + kStripTokens + kStripTokens / 4 + IntegerBytes(d) / 4 + 5) +
         kStripTokens / 4 * kZippedColumns<V>;
}

template <class S>
class Int8ElAttention {
 public:
  using V = typename S::Vec;

  explicit Int8ElAttention(const ElAttention& p)
      : p_(p),
        queries_(static_cast<int>(RoundUp(p.queries, L))),
        units_(IntegerBytes(p.d) / 4),
        width_(RoundUp(p.d, kColumns)) {
    s_.sums = p.scratch;
    s_.scores = reinterpret_cast<uint32_t*>(s_.sums + kElQueries * width_);
    s_.weights = s_.scores + kElQueries * kStripTokens;
    s_.zipped = s_.weights + kElQueries * kStripTokens / 4;
    s_.q = s_.zipped + kStripTokens / 4 * kColumns;
    s_.m = reinterpret_cast<float*>(s_.q + kElQueries * units_);
    s_.l = s_.m + kElQueries;
    s_.old = s_.l + kElQueries;
    s_.strip = s_.old + kElQueries;
    s_.scale = s_.strip + kElQueries;
    for (int query = 0; query < queries_; ++query) Begin(query);
    std::memset(s_.sums, 0, static_cast<size_t>(p.queries * width_) * sizeof(float));
  }

  void Attend() {
    for (int begin = 0; begin < p_.tokens; begin += kStripTokens) {
      const Strip strip = StripOf(begin);
      Scores(strip);
      for (int query = 0; query < queries_; query += L) Weights(strip, query);
      for (int64_t column = 0; column < width_; column += kColumns) AddColumns(strip, column);
    }
    for (int query = 0; query < p_.queries; ++query) Finish(query);
  }

 private:
  using F = typename V::F;
  using I = typename V::I;
  static constexpr int L = V::kLanes;
  static constexpr int kColumns = kZippedColumns<V>;
  static constexpr int kPages = kStripTokens / kPageTokens;

  struct Strip {
    int begin, tokens;
    const uint32_t* integers[kPages];  // of each page: [kPageTokens, units]
    const Int8State* states[kPages];   // [kPageTokens]
    const Int8State& state(int t) const { return states[t / kPageTokens][t % kPageTokens]; }
  };

  Strip StripOf(int begin) const {
    const int left = p_.tokens - begin;
    Strip strip{.begin = begin, .tokens = left < kStripTokens ? left : kStripTokens, .integers = {}, .states = {}};
    for (int page = 0; page < Parts(strip.tokens, kPageTokens); ++page) {
      strip.integers[page] = p_.pages[begin / kPageTokens + page];
      strip.states[page] = reinterpret_cast<const Int8State*>(strip.integers[page] + kPageTokens * units_);
    }
    return strip;
  }

  // The query's integers; of one that is not there, zeros.
  void Begin(int query) {
    s_.m[query] = kNoScore;
    s_.l[query] = 0;
    s_.scale[query] = 0;
    auto* row = reinterpret_cast<uint32_t*>(s_.sums);  // nothing is in them yet
    std::memset(row, 0, static_cast<size_t>(4 * units_));
    if (query < p_.queries) {
      const auto* states = reinterpret_cast<const std::byte*>(p_.q[query]);
      const float scale = ScaleOf(ExtentOf<S>(states, p_.d), /*of_zeros=*/1);
      s_.scale[query] = scale * kLog2e;
      RoundRow<S, kQueryOffset>(states, p_.d, scale, reinterpret_cast<uint8_t*>(row));
    }
    for (int64_t u = 0; u < units_; ++u) s_.q[u * queries_ + query] = row[u];
  }

  // In powers of two, log2 of the tokens' scales among them.
  void Scores(const Strip& strip) {
    auto* scores = reinterpret_cast<float*>(s_.scores);
    for (int page = 0; page < Parts(strip.tokens, kPageTokens); ++page) {
      const int left = strip.tokens - page * kPageTokens, count = left < kPageTokens ? left : kPageTokens;
      PageScoresEl<SignedRows<V>>(strip.integers[page], units_, count, s_.q, queries_, units_,
                                  scores + page * kPageTokens * queries_);
    }
    for (int t = 0; t < strip.tokens; ++t) {
      const Int8State& state = strip.state(t);
      const I offset = V::SetInts(kQueryOffset * state.sum);
      for (int query = 0; query < queries_; query += L) {
        const int64_t at = t * queries_ + query;
        const F dot = V::FromInts(V::SubInts(V::LoadUnits(s_.scores + at), offset));
        const F by = V::Mul(V::Load(s_.scale + query), V::Set(state.scale));
        V::Store(scores + at, V::Fma(dot, by, V::Set(state.log2)));
      }
    }
    if (p_.bias == nullptr) return;
    for (int query = 0; query < p_.queries; ++query) {
      const float* bias = p_.bias[query] + strip.begin;
      for (int t = 0; t < strip.tokens; ++t) scores[t * queries_ + query] += bias[t] * kLog2e;
    }
  }

  // Of a vector of queries: 254 times a weight, in proportion to the strip's largest.
  void Weights(const Strip& strip, int query) {
    const float* scores = reinterpret_cast<const float*>(s_.scores) + query;
    F top = V::Set(kNoScore);
    for (int t = 0; t < strip.tokens; ++t) top = V::Max(V::Load(scores + t * queries_), top);
    F sum = V::Zero(), left = V::Zero();
    for (int u = 0; 4 * u < strip.tokens; ++u) {
      I unit = V::ZeroInts();
      for (int i = 0; i < 4 && 4 * u + i < strip.tokens; ++i) {
        const int t = 4 * u + i;
        const F score = V::Add(V::Sub(V::Load(scores + t * queries_), top), V::Set(kLog2Most));
        const F exact = V::Add(Exp2<V, kExpTerms<S>>(score), left);
        const F weight = V::Round(exact);
        left = V::Sub(exact, weight);
        sum = V::Fma(weight, V::Set(strip.state(t).inverse), sum);
        unit = V::AddInts(unit, V::ShiftBytes(V::ToInts(weight), i));
      }
      V::StoreUnits(s_.weights + u * queries_ + query, unit);
    }
    const F m = V::Load(s_.m + query), next = V::Max(m, top);
    const F old = Exp2<V>(V::Sub(m, next)), scale = Exp2<V>(V::Sub(top, next));
    V::Store(s_.m + query, next);
    V::Store(s_.old + query, old);
    V::Store(s_.strip + query, scale);
    V::Store(s_.l + query, V::Fma(V::Load(s_.l + query), old, V::Mul(scale, sum)));
  }

  // Some columns of the strip's weighted states.
  void AddColumns(const Strip& strip, int64_t column) {
    const int units = (strip.tokens + 3) / 4;
    for (int u = 0; u < units; ++u) {
      const uint32_t* row = strip.integers[4 * u / kPageTokens] + 4 * u % kPageTokens * units_ + column / 4;
      I zipped[4];
      V::Zip4(row, row + units_, row + 2 * units_, row + 3 * units_, zipped);
      for (int i = 0; i < 4; ++i) V::StoreUnits(s_.zipped + u * kColumns + i * L, zipped[i]);
    }
    constexpr int kMost = kRegisterRows<V>;
    using M = Int8Units<V>;
    alignas(64) float added[kMost * 2 * L];
    const int parts = Parts(p_.queries, kMost);
    for (int part = 0; part < parts; ++part) {
      const int query = part * p_.queries / parts, n = (part + 1) * p_.queries / parts - query;
      for (int half = 0; half < kColumns; half += 2 * L) {
        WithRows<kMost>(n, [&]<int MR>() {
          StoreProduct<M, MR, 2>(units, s_.weights + query, 1, queries_, QueryColumns<M>{s_.zipped + half, kColumns},
                                 added, 2 * L);
        });
        for (int i = 0; i < n; ++i) AddRow(query + i, column + half, reinterpret_cast<uint32_t*>(added + i * 2 * L));
      }
    }
  }

  // Two vectors of sums of integers.
  void AddRow(int query, int64_t column, const uint32_t* added) {
    const F old = V::Set(s_.old[query]), scale = V::Set(s_.strip[query]);
    float* to = s_.sums + query * width_ + column;
    for (int i = 0; i < 2 * L; i += L) {
      V::Store(to + i, V::Fma(V::Load(to + i), old, V::Mul(V::FromInts(V::LoadUnits(added + i)), scale)));
    }
  }

  // sums / l -> states, in the order of columns.
  void Finish(int query) {
    const float by = 1.0f / s_.l[query];
    for (int64_t column = 0; column < p_.d; column += kColumns) {
      const float* zipped = s_.sums + query * width_ + column;
      float numbers[kColumns];
      for (int i = 0; i < L; i += 4) {
        for (int j = 0; j < 4; ++j) {
          for (int k = 0; k < 4; ++k) numbers[4 * i + 4 * j + k] = zipped[j * L + i + k] * by;
        }
      }
      const int64_t left = p_.d - column;
      ToState<S>(numbers, left < kColumns ? left : kColumns,
                 p_.out[query] + column * static_cast<int64_t>(sizeof(typename S::State)));
    }
  }

  const ElAttention& p_;
  const int queries_;    // in whole vectors
  const int64_t units_;  // of a state
  const int64_t width_;  // of the sums
  Int8ElScratch s_;
};

template <class S>
void AttendInt8El(const ElAttention& p) {
  Int8ElAttention<S>(p).Attend();
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_EL_ATTENTION_INL_H_
