// Attention over packed keys and values by tiles: tokens are rows and queries are lanes in the scores, S^T = K Q^T, so
// that maxima, weights and sums are vertical; dimensions are rows in the weighted sum, O^T = V^T P^T.
//
// A page of 64 tokens of one head is an item. While the weights of an item are computed, the tiles of the next item's
// scores and of the weighted sum of the one before are issued between them.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_PACKED_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_PACKED_ATTENTION_INL_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/amx/fetch.inl.h"
#include "engine/backend/cpu/amx/lazy_reference.inl.h"
#include "engine/backend/cpu/amx/tile_instructions.inl.h"
#include "engine/backend/cpu/amx/tile_layout.inl.h"
#include "engine/backend/cpu/avx512_bf16/dot_bf16.inl.h"
#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// Steps of 32 numbers that a head has, the last one filled up with zeros.
inline int TileSteps(int head_dim) { return (head_dim + 31) / 32; }

// Keys: [64 / 16 tokens][steps] tiles of 16 tokens by 32 numbers, the A operand of the scores. Values, turned:
// [64 / 32 tokens][2 steps] tiles of 16 numbers by 32 tokens, the A operand of the sums.
inline constexpr int kKeyGroups = kPageTokens / kTileRows, kValueGroups = kPageTokens / 32;
inline int64_t TilePageUnits(int head_dim) {
  return int64_t{kKeyGroups + 2 * kValueGroups} * TileSteps(head_dim) * kTileSize;
}

// Units of a head's `step`.
inline int StepUnits(int head_dim, int step) { return std::min(head_dim / 2 - step * kTileUnits, kTileUnits); }

// 32 tokens' row of 32 values each, turned -> two tiles.
inline void PackValueTiles(const std::byte* rows, int64_t stride, int tokens, int units, uint32_t* tiles) {
  // Numbers 0, 2, ... of two vectors, and 1, 3, ...
  alignas(64) static constexpr uint16_t kEven[32] = {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                                     32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62};
  const __m512i even = _mm512_loadu_si512(kEven), odd = _mm512_or_si512(even, _mm512_set1_epi32(0x00010001));
  __m512i low[16], high[16];
  const auto row = [&](int t) { return reinterpret_cast<const uint32_t*>(rows + t * stride); };
  LoadTurned(tokens, units, row, low);
  LoadTurned(
      tokens - 16, units, [&](int t) { return row(16 + t); }, high);
  for (int i = 0; i < 16; ++i) {
    _mm512_storeu_si512(tiles + 2 * i * kTileUnits, _mm512_permutex2var_epi16(low[i], even, high[i]));
    _mm512_storeu_si512(tiles + (2 * i + 1) * kTileUnits, _mm512_permutex2var_epi16(low[i], odd, high[i]));
  }
}

inline void PackTilePage(const KeyValuePage& p) {
  const int steps = TileSteps(p.head_dim);
  uint32_t* to = p.page;
  for (int first = 0; first < kPageTokens; first += kTileRows) {
    for (int step = 0; step < steps; ++step, to += kTileSize) {
      for (int i = 0; i < kTileRows; ++i) {
        const int units = first + i < p.tokens ? StepUnits(p.head_dim, step) : 0;
        const std::byte* const row = p.keys + (first + i) * p.stride + step * kTileBytes;
        _mm512_storeu_si512(to + i * kTileUnits, Vec512::LoadUnitsN(reinterpret_cast<const uint32_t*>(row), units));
      }
    }
  }
  for (int first = 0; first < kPageTokens; first += 32) {
    for (int step = 0; step < steps; ++step, to += 2 * kTileSize) {
      PackValueTiles(p.values + first * p.stride + step * kTileBytes, p.stride, p.tokens - first,
                     StepUnits(p.head_dim, step), to);
    }
  }
}

// Memory of up to 32 queries' attention, in units from a boundary.
struct TilePackedScratch {
  int64_t q, scores, pairs, sums, lanes, end;
  TilePackedScratch(int heads, int head_dim, int groups) {
    const int64_t steps = TileSteps(head_dim);
    q = 0;                                                 // [heads][steps][groups] tiles
    scores = q + heads * steps * groups * kTileSize;       // [2][64 tokens][groups * 16] float32
    pairs = scores + 2 * kPageTokens * groups * 16;        // [2][2][groups] tiles of token pairs
    sums = pairs + 2 * kValueGroups * groups * kTileSize;  // [heads][32 * steps][groups * 16] float32
    lanes = sums + heads * steps * 32 * groups * 16;       // [heads][groups]: references, then sums of weights
    end = lanes + 2 * heads * groups * 16;
  }
};
inline int64_t TilePackedScratchFloats(int heads, int head_dim) {
  return TilePackedScratch(heads, head_dim, 2).end + kScratchBoundary;
}

// The weights of one item's scores, a few pairs of tokens at a time. Made and used within one function, so that what it
// has of each query stays in registers.
template <int kGroups>
class TileWeights {
 public:
  static constexpr int kLanes = 16 * kGroups;

  // scores: [tokens, kLanes]; pairs: [2][kGroups] tiles of token pairs; reference, total: [kLanes].
  __attribute__((always_inline))
  TileWeights(const float* scores, int tokens, uint32_t* pairs, float* reference, float* total)
      : scores_(scores), pairs_(pairs), tokens_(static_cast<unsigned>(tokens)), left_((tokens_ + 31) / 32 * 16) {
#pragma GCC unroll 2
    for (int group = 0; group < kGroups; ++group) {
      Greatest greatest;
      greatest.Take(scores + group * 16, kLanes, tokens);
      const LazyReference next = LazyReference::Follow(Vec512::Load(reference + group * 16), greatest.Of());
      Vec512::Store(reference + group * 16, next.reference);
      minus_[group] = Vec512::Sub(Vec512::Zero(), next.reference);
      scale_[group] = next.scale;
      moved_ = moved_ || next.moved != 0;
      sum_[group] = Vec512::Mul(Vec512::Load(total + group * 16), scale_[group]);
    }
  }

  __attribute__((always_inline)) void Step(unsigned pairs) {
    const __m512i ones = _mm512_set1_epi32(0x3f803f80);
    for (const unsigned end = std::min(pair_ + pairs, left_); pair_ < end; ++pair_) {
      const unsigned t = 2 * pair_;
#pragma GCC unroll 2
      for (int group = 0; group < kGroups; ++group) {
        const float* s = scores_ + t * kLanes + group * 16;
        __m512 even = Weight(s, group), odd = Weight(s + kLanes, group);
        if (__builtin_expect(t + 1 >= tokens_, 0)) {
          odd = Vec512::Zero();
          if (t >= tokens_) even = Vec512::Zero();
        }
        const __m512i pair = Pairs(even, odd);
        _mm512_storeu_si512(pairs_ + (pair_ / 16 * kGroups + group) * kTileSize + pair_ % 16 * kTileUnits, pair);
        sum_[group] = DotBf16State::Dot(sum_[group], pair, ones);  // of the weights as they are rounded
      }
    }
  }

  // All that is left. `sums`, [rows, kLanes] or null, have the references of before: they come to the new ones.
  __attribute__((always_inline)) void End(float* total, float* sums, int rows) {
    Step(left_);
#pragma GCC unroll 2
    for (int group = 0; group < kGroups; ++group) {
      Vec512::Store(total + group * 16, sum_[group]);
      if (!moved_ || sums == nullptr) continue;
      for (int j = 0; j < rows; ++j) {
        float* at = sums + j * kLanes + group * 16;
        Vec512::Store(at, Vec512::Mul(Vec512::Load(at), scale_[group]));
      }
    }
  }

 private:
  __attribute__((always_inline)) __m512 Weight(const float* score, int group) const {
    return Vec512::Exp2Cubic(Vec512::Fma(Vec512::Load(score), Vec512::Set(kLog2e), minus_[group]));
  }

  const float* scores_;
  uint32_t* pairs_;
  const unsigned tokens_, left_;  // left_: pairs in all
  unsigned pair_ = 0;
  bool moved_ = false;
  __m512 minus_[kGroups], scale_[kGroups], sum_[kGroups];  // minus the reference, in powers of two
};

// Up to 16 * kGroups queries, all heads.
template <int kGroups>
class TilePackedRows {
 public:
  TilePackedRows(const PackedAttention& p, int row, int rows)
      : p_(p),
        row_(row),
        rows_(rows),
        steps_(TileSteps(p.head_dim)),
        page_units_(TilePageUnits(p.head_dim)),
        items_(p.heads * ((p.tokens + kPageTokens - 1) / kPageTokens)) {
    const TilePackedScratch at(p.heads, p.head_dim, kGroups);
    auto* base = reinterpret_cast<uint32_t*>(FirstBoundary(p.scratch));
    q_ = base + at.q;
    scores_ = reinterpret_cast<float*>(base + at.scores);
    pairs_ = base + at.pairs;
    sums_ = reinterpret_cast<float*>(base + at.sums);
    reference_ = reinterpret_cast<float*>(base + at.lanes);
    total_ = reference_ + p.heads * kLanes;
  }

  void Run() {
    for (int head = 0; head < p_.heads; ++head) PackQueries(head);
    for (int i = 0; i < p_.heads * kLanes; i += 16) {
      Vec512::Store(reference_ + i, Vec512::Set(kNoScore));
      Vec512::Store(total_ + i, Vec512::Zero());
    }
    // Of item i: scores in round i - 1, weights in round i, weighted sum in round i + 1.
    const auto nothing = [](unsigned) {};
    Scores(0, nothing);
    for (int i = 0; i < items_; ++i) Round(i);
    AddValues(items_ - 1, nothing);
    for (int head = 0; head < p_.heads; ++head) Finish(head);
  }

 private:
  static constexpr int kLanes = 16 * kGroups;
  // Pairs of tokens between two tile products: an item's 32 in the time of its 32, or of its 16.
  static constexpr unsigned kPairs = kGroups == 2 ? 1 : 2;

  struct Item {
    const uint32_t* page;  // of the head
    int head, first, tokens;
  };
  Item ItemAt(int i) const {
    const int page = i / p_.heads, head = i % p_.heads, first = page * kPageTokens;
    return {p_.pages[page] + head * page_units_, head, first, std::min(kPageTokens, p_.tokens - first)};
  }

  void Round(int i) {
    const Item item = ItemAt(i);
    float* scores = scores_ + (i & 1) * kPageTokens * kLanes;
    float *reference = reference_ + item.head * kLanes, *total = total_ + item.head * kLanes;
    if (p_.bias != nullptr) AddBias(item, scores);
    TileWeights<kGroups> weights(scores, item.tokens, Pairs(i), reference, total);
    const auto weigh = [&weights](unsigned pairs) __attribute__((always_inline)) { weights.Step(pairs); };
    if (i + 1 < items_) Scores(i + 1, weigh);
    if (i > 0) AddValues(i - 1, weigh);
    weights.End(total, item.first == 0 ? nullptr : Sums(item.head), steps_ * 32);
  }

  uint32_t* Pairs(int i) const { return pairs_ + (i & 1) * kValueGroups * kGroups * kTileSize; }
  float* Sums(int head) const { return sums_ + head * steps_ * 32 * kLanes; }

  // Queries as B operands: units are rows, queries are columns.
  void PackQueries(int head) {
    const int units = p_.head_dim / 2;
    for (int step = 0; step < steps_; ++step) {
      for (int group = 0; group < kGroups; ++group) {
        __m512i r[16];
        const uint32_t* const q = p_.q + (row_ + group * 16) * p_.q_stride + head * units + step * kTileUnits;
        LoadTurned(
            rows_ - group * 16, StepUnits(p_.head_dim, step), [&](int i) { return q + i * p_.q_stride; }, r);
        StoreWholeTile(r, q_ + ((head * steps_ + step) * kGroups + group) * kTileSize);
      }
    }
  }

  // Scores [tokens, kLanes] of item i.
  template <class Weigh>
  __attribute__((always_inline)) void Scores(int i, const Weigh& weigh) {
    const Item item = ItemAt(i);
    Fetch fetch = i + 1 < items_ ? Fetch(ItemAt(i + 1).page, page_units_, kKeyGroups) : Fetch();
    const uint32_t* q = q_ + item.head * steps_ * kGroups * kTileSize;
    const uint32_t* keys = item.page;
    float* to = scores_ + (i & 1) * kPageTokens * kLanes;
    constexpr int64_t kRow = kLanes * 4;
    for (int group = 0; group * kTileRows < item.tokens; ++group, to += kTileRows * kLanes) {
      ZeroTile<0>();
      if constexpr (kGroups == 2) ZeroTile<1>();
      for (int step = 0; step < steps_; ++step, keys += kTileSize) {
        LoadTile<2>(keys, kTileBytes);
        LoadTile<4>(q + step * kGroups * kTileSize, kTileBytes);
        MultiplyTiles<0, 2, 4>();
        weigh(kPairs);
        if constexpr (kGroups == 2) {
          LoadTile<5>(q + (step * kGroups + 1) * kTileSize, kTileBytes);
          MultiplyTiles<1, 2, 5>();
          weigh(kPairs);
        }
      }
      StoreTile<0>(to, kRow);
      if constexpr (kGroups == 2) StoreTile<1>(to + 16, kRow);
      fetch();
    }
  }

  // s[t][lane] += the query's bias for token t.
  void AddBias(const Item& item, float* scores) {
    const float* bias = p_.bias + item.head * p_.bias_head + item.first;
    for (int group = 0; group < kGroups; ++group) {
      alignas(64) int32_t at[16];
      for (int i = 0; i < 16; ++i) {
        at[i] = static_cast<int32_t>((row_ + std::min(group * 16 + i, rows_ - 1)) * p_.bias_row);
      }
      const __m512i index = _mm512_loadu_si512(at);
      for (int t = 0; t < item.tokens; ++t) {
        float* s = scores + t * kLanes + group * 16;
        Vec512::Store(s, Vec512::Add(Vec512::Load(s), _mm512_i32gather_ps(index, bias + t, 4)));
      }
    }
  }

  // sums += V^T P^T of item i, 32 dimensions at a time.
  template <class Weigh>
  __attribute__((always_inline)) void AddValues(int i, const Weigh& weigh) {
    const Item item = ItemAt(i);
    const uint32_t* weights = Pairs(i);
    const uint32_t* values = item.page + kKeyGroups * steps_ * kTileSize;
    float* sums = Sums(item.head);
    for (int step = 0; step < steps_; ++step, sums += 32 * kLanes) {
      BeginSums(sums, item.first == 0);
      for (int half = 0; half * 32 < item.tokens; ++half) {
        const uint32_t* v = values + (half * steps_ + step) * 2 * kTileSize;
        const uint32_t* w = weights + half * kGroups * kTileSize;
        LoadTile<4>(v, kTileBytes);
        LoadTile<6>(w, kTileBytes);
        MultiplyTiles<0, 4, 6>();
        weigh(kPairs);
        LoadTile<5>(v + kTileSize, kTileBytes);
        MultiplyTiles<2, 5, 6>();
        weigh(kPairs);
        if constexpr (kGroups == 2) {
          LoadTile<7>(w + kTileSize, kTileBytes);
          MultiplyTiles<1, 4, 7>();
          weigh(kPairs);
          MultiplyTiles<3, 5, 7>();
          weigh(kPairs);
        }
      }
      EndSums(sums);
    }
  }

  // Tiles 0 and 2: the first and the second 16 dimensions of queries 0 to 15; 1 and 3: of the others.
  static void BeginSums(const float* sums, bool first) {
    constexpr int64_t kRow = kLanes * 4, kSecond = kTileRows * kLanes;
    if (first) {
      ZeroTile<0>();
      ZeroTile<2>();
      if constexpr (kGroups == 2) ZeroTile<1>();
      if constexpr (kGroups == 2) ZeroTile<3>();
      return;
    }
    LoadTile<0>(sums, kRow);
    LoadTile<2>(sums + kSecond, kRow);
    if constexpr (kGroups == 2) LoadTile<1>(sums + 16, kRow);
    if constexpr (kGroups == 2) LoadTile<3>(sums + kSecond + 16, kRow);
  }
  static void EndSums(float* sums) {
    constexpr int64_t kRow = kLanes * 4, kSecond = kTileRows * kLanes;
    StoreTile<0>(sums, kRow);
    StoreTile<2>(sums + kSecond, kRow);
    if constexpr (kGroups == 2) StoreTile<1>(sums + 16, kRow);
    if constexpr (kGroups == 2) StoreTile<3>(sums + kSecond + 16, kRow);
  }

  // sums / total -> states, a query a row again.
  void Finish(int head) {
    for (int group = 0; group < kGroups; ++group) {
      const __m512 by = Vec512::Div(Vec512::Set(1), Vec512::Load(total_ + head * kLanes + group * 16));
      for (int step = 0; step < steps_; ++step) {
        const float* sums = sums_ + (head * steps_ + step) * 32 * kLanes + group * 16;
        __m512i r[16];
        for (int i = 0; i < 16; ++i) {
          r[i] = cpu::Pairs(Vec512::Mul(Vec512::Load(sums + 2 * i * kLanes), by),
                            Vec512::Mul(Vec512::Load(sums + (2 * i + 1) * kLanes), by));
        }
        Transpose(r);
        const int units = StepUnits(p_.head_dim, step);
        const int64_t column = 2 * (static_cast<int64_t>(head) * p_.head_dim + 32 * step);
        for (int i = 0; i < 16 && group * 16 + i < rows_; ++i) {
          _mm512_mask_storeu_epi32(p_.out + (row_ + group * 16 + i) * p_.out_stride + column, Vec512::Mask(units),
                                   r[i]);
        }
      }
    }
  }

  const PackedAttention& p_;
  const int row_, rows_;
  const int steps_;           // of 32 numbers of a head
  const int64_t page_units_;  // of one head
  const int items_;
  uint32_t* q_;
  float* scores_;
  uint32_t* pairs_;
  float *sums_, *reference_, *total_;  // TilePackedScratch; references in powers of two
};

inline void AttendPackedByTiles(const PackedAttention& p) {
  LoadTileConfig(kWholeTiles);
  for (int row = 0; row < p.rows; row += 32) {
    const int rows = std::min(32, p.rows - row);
    if (rows > 16) {
      TilePackedRows<2>(p, row, rows).Run();
    } else {
      TilePackedRows<1>(p, row, rows).Run();
    }
  }
  ReleaseTiles();
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_PACKED_ATTENTION_INL_H_
