// EL-attention by the tile unit. A page is two halves of 32 tokens, each [d / 32][2][16 tokens][32 columns] in tiles of
// 1 KiB, zeros beyond d and behind the last token: one layout that the first product reads as it lies, and the second
// with pairs of tokens interleaved on the way. Reading H a second time in another form would cost more than that.
//
// By strips of 128 tokens, from the document's beginning: the scores of a strip are made while the softmax of the one
// before is, then that one's values are added; meanwhile the next but one comes into the second-level cache, behind the
// last one what is read next. A query's sums run over columns, then steps of 32 tokens, then strips, whatever stands
// beside it.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_ATTENTION_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_ATTENTION_INL_H_

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/amx/fetch.inl.h"
#include "engine/backend/cpu/amx/strip_softmax.inl.h"
#include "engine/backend/cpu/amx/tile_el_products.inl.h"
#include "engine/backend/cpu/amx/tile_el_scratch.inl.h"
#include "engine/backend/cpu/avx512/vec512.inl.h"
#include "engine/backend/cpu/generic/online_softmax.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

inline int64_t PanelsOf(int64_t d) { return RoundUp(d, kPanelColumns) / kPanelColumns; }

inline int64_t TileElScratchFloats(int64_t d) { return TileElScratch::Floats(PanelsOf(d)); }

inline void StoreStateTiles(const StatePage& p) {
  const int64_t panels = PanelsOf(p.d), units = p.d / 2;
  auto* const page = reinterpret_cast<uint32_t*>(p.page);
  // Panel by panel, so that a step's 2 KiB are written from end to end.
  for (int begin = 0; begin < p.reach; begin += kStepTokens) {
    const int tokens = std::clamp(p.tokens - begin, 0, kStepTokens);
    uint32_t* to = page + begin / kStepTokens * panels * kStepUnits;
    for (int64_t unit = 0; unit < units; unit += kTileUnits, to += kStepUnits) {
      const int n = static_cast<int>(std::min<int64_t>(units - unit, kTileUnits));
      for (int t = 0; t < tokens; ++t) {
        const auto* const row = reinterpret_cast<const uint32_t*>(p.rows[begin + t]);
        _mm512_storeu_si512(to + t * kTileUnits, Vec512::LoadUnitsN(row + unit, n));
      }
      std::memset(to + tokens * kTileUnits, 0, static_cast<size_t>(kStepTokens - tokens) * kTileBytes);
    }
  }
}

// Of `tokens`, those from `begin` up to the strip's end; none behind the last.
inline StripStates StripAt(const uint32_t* const* pages, int tokens, int begin, int64_t panels) {
  StripStates strip{};
  strip.tokens = std::clamp(tokens - begin, 0, kStripTokens);
  strip.steps = (strip.tokens + kStepTokens - 1) / kStepTokens;
  strip.panels = panels;
  for (int step = 0; step < strip.steps; ++step) {
    const int token = begin + step * kStepTokens;
    strip.step[step] = pages[token / kPageTokens] + token % kPageTokens / kStepTokens * panels * kStepUnits;
  }
  return strip;
}

// A strip that comes to the second-level cache in about so many calls.
class StripFetch {
 public:
  __attribute__((always_inline)) StripFetch(const StripStates& strip, int64_t calls)
      : strip_(strip), calls_(std::max<int64_t>(1, calls / std::max(1, strip.steps))) {}

  __attribute__((always_inline)) void operator()() {
    if (fetch_.done()) {
      if (step_ == strip_.steps) return;
      fetch_ = Fetch(strip_.step[step_++], strip_.panels * kStepUnits, calls_, 2 * Fetch::kLine);
    }
    fetch_();
  }

 private:
  const StripStates& strip_;
  const int64_t calls_;  // for a step
  int step_ = 0;         // the next
  Fetch fetch_;
};

// Queries as the first product's second operand; no token is seen yet.
inline void PackQueries(const ElAttention& p, QueryTiles queries, int64_t panels, const TileElScratch& s) {
  for (int tile = 0; tile < queries.count; ++tile) {
    const int first = tile * kTileRows, present = std::min(p.queries - first, kTileRows);
    Vec512::Store(s.reference + first, Vec512::Set(kNoScore));
    Vec512::Store(s.total + first, Vec512::Zero());
    uint32_t* to = s.q + queries.First(tile, panels) * kTileSize;
    for (int64_t unit = 0; unit < p.units; unit += kTileUnits, to += queries.group * kTileSize) {
      const int n = static_cast<int>(std::min<int64_t>(p.units - unit, kTileUnits));
      __m512i rows[kTileRows];
      LoadTurned(
          present, n, [&](int i) { return p.q[first + i] + unit; }, rows);
      StoreWholeTile(rows, to);
    }
  }
}

// Scores of `strip`, and between its products the softmax of the strip before. Either may have no tokens.
inline void ScoreStrip(const StripStates& strip, QueryTiles queries, const TileElScratch& s, float* scores,
                       StripSoftmax softmax, StripFetch& fetch) {
  const int64_t calls = std::max<int64_t>(1, queries.groups() * strip.steps * strip.panels);
  const int64_t steps = (softmax.steps() + calls - 1) / calls;
  const auto work = [&]() __attribute__((always_inline)) {
    for (int64_t i = 0; i < steps; ++i) softmax.Step();
    fetch();
  };
  for (int first = 0; first < queries.count; first += queries.group) {
    const uint32_t* const q = s.q + queries.First(first, strip.panels) * kTileSize;
    float* const to = scores + queries.First(first, kStripTokens / kTileRows) * kTileSize;
    if (queries.group == 1) GroupScores<1>(strip, q, to, work);
    if (queries.group == 2) GroupScores<2>(strip, q, to, work);
    if (queries.group == 3) GroupScores<3>(strip, q, to, work);
  }
  while (!softmax.done()) softmax.Step();
}

// Adds p.bias of `tokens` tokens from `begin` to their scores.
inline void AddBias(const ElAttention& p, int begin, int tokens, QueryTiles queries, float* scores) {
  for (int tile = 0; tile < queries.count; ++tile) {
    const int first = tile * kTileRows, present = std::min(p.queries - first, kTileRows);
    float* to = scores + queries.First(tile, kStripTokens / kTileRows) * kTileSize;
    for (int t = 0; t < tokens; t += kTileRows, to += queries.group * kTileSize) {
      const int n = std::min(tokens - t, kTileRows);
      __m512i rows[kTileRows];
      const auto row = [&](int i) { return reinterpret_cast<const uint32_t*>(p.bias[first + i] + begin + t); };
      LoadTurned(present, n, row, rows);
      for (int i = 0; i < kTileRows; ++i) {
        float* const score = to + i * kTileUnits;
        Vec512::Store(score, Vec512::Add(Vec512::Load(score), Vec512::AsFloat(rows[i])));
      }
    }
  }
}

// Where a query's reference moved, its sums follow.
inline void ScaleSums(const TileElScratch& s, QueryTiles queries, int64_t panels) {
  for (int query = 0; query < queries.count * kTileRows; ++query) {
    if (s.scale[query] == 1.0f) continue;
    const __m512 scale = Vec512::Set(s.scale[query]);
    float* at = s.sums + queries.First(query / kTileRows, panels) * 2 * kTileSize + query % kTileRows * kTileUnits;
    for (int64_t panel = 0; panel < panels; ++panel, at += queries.group * 2 * kTileSize) {
      Vec512::Store(at, Vec512::Mul(Vec512::Load(at), scale));
      Vec512::Store(at + kTileSize, Vec512::Mul(Vec512::Load(at + kTileSize), scale));
    }
  }
}

// Sums += the strip's weighted states; `first`: there are none yet.
inline void AddValues(const StripStates& strip, QueryTiles queries, const TileElScratch& s, bool first,
                      StripFetch& fetch) {
  ValueRing ring(strip, s.values, queries.groups());
  const auto work = [&](int begin, int end) __attribute__((always_inline)) {
    ring.Interleave(begin, end);
    if (end == ValueRing::kPairs) fetch();
  };
  const int steps = strip.steps;
  int slot = 0;
  for (int64_t panel = 0; panel < strip.panels; ++panel) {
    float* const sums = s.sums + panel * queries.group * 2 * kTileSize;
    const int begin = slot;
    if (queries.group == 1) slot = GroupValues<1>(s.weights, ring, begin, steps, first, sums, work);
    if (queries.group == 2) slot = GroupValues<2>(s.weights, ring, begin, steps, first, sums, work);
    if (queries.group == 3) slot = GroupValues<3>(s.weights, ring, begin, steps, first, sums, work);
    if (queries.groups() == 1) continue;
    // Two groups of two: the second reads what the first had made.
    GroupValues<2>(s.weights + queries.First(2, kStripSteps) * kTileSize, ring, begin, steps, first,
                   sums + queries.First(2, strip.panels) * 2 * kTileSize, [](int, int) {});
  }
}

// sums / total -> states, in the order of columns.
inline void StoreOutputs(const ElAttention& p, QueryTiles queries, int64_t panels, const TileElScratch& s) {
  for (int query = 0; query < p.queries; ++query) {
    const __m512 by = Vec512::Set(1.0f / s.total[query]);
    const float* at =
        s.sums + queries.First(query / kTileRows, panels) * 2 * kTileSize + query % kTileRows * kTileUnits;
    auto* const out = reinterpret_cast<uint32_t*>(p.out[query]);
    for (int64_t unit = 0; unit < p.units; unit += kTileUnits, at += queries.group * 2 * kTileSize) {
      __m512 a = Vec512::Mul(Vec512::Load(at), by), b = Vec512::Mul(Vec512::Load(at + kTileSize), by);
      Vec512::Unzip(a, b, &a, &b);
      const int n = static_cast<int>(std::min<int64_t>(p.units - unit, kTileUnits));
      _mm512_mask_storeu_epi32(out + unit, Vec512::Mask(n), Rounded(a, b));
    }
  }
}

inline void AttendElByTiles(const ElAttention& p) {
  LoadTileConfig(kWholeTiles);
  const int64_t panels = PanelsOf(p.d);
  const QueryTiles queries(p.queries);
  const TileElScratch s(p.scratch, panels);
  PackQueries(p, queries, panels, s);
  StripStates before{};
  for (int begin = 0; begin < p.tokens + kStripTokens; begin += kStripTokens) {
    const int next = begin + kStripTokens, beyond = next - static_cast<int>(RoundUp(p.tokens, kStripTokens));
    const StripStates strip = StripAt(p.pages, p.tokens, begin, panels),
                      after = beyond < 0 ? StripAt(p.pages, p.tokens, next, panels)
                                         : StripAt(p.next_pages, p.next_tokens, beyond, panels);
    StripFetch fetch(after, panels * (queries.groups() * strip.steps + before.steps));
    const int odd = begin / kStripTokens % 2;
    ScoreStrip(strip, queries, s, s.scores[odd], StripSoftmax(s, queries, s.scores[1 - odd], before.tokens), fetch);
    if (p.bias != nullptr) AddBias(p, begin, strip.tokens, queries, s.scores[odd]);
    if (begin > kStripTokens) ScaleSums(s, queries, panels);
    if (begin > 0) AddValues(before, queries, s, begin == kStripTokens, fetch);
    before = strip;
  }
  StoreOutputs(p, queries, panels, s);
  ReleaseTiles();
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_ATTENTION_INL_H_
