// A strip's softmax on tiles of scores, in steps small enough to stand between tile products: the vector units work
// while the tile unit does. Vertical: lanes are queries.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_STRIP_SOFTMAX_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_STRIP_SOFTMAX_INL_H_

#include <algorithm>
#include <cstdint>

#include "engine/backend/cpu/amx/lazy_reference.inl.h"
#include "engine/backend/cpu/amx/tile_el_scratch.inl.h"
#include "engine/backend/cpu/avx512/vec512.inl.h"

namespace elserve::cpu {
namespace {

class StripSoftmax {
 public:
  static constexpr int kTokens = 4;  // of a step

  // Of the first `tokens` scores, perhaps none; those up to a multiple of kStepTokens get the weight 0.
  __attribute__((always_inline))
  StripSoftmax(const TileElScratch& s, QueryTiles queries, const float* scores, int tokens)
      : s_(s),
        queries_(queries),
        scores_(scores),
        tokens_(tokens),
        next_tile_(queries.group * kTileSize),
        tile_(tokens == 0 ? queries.count : 0) {
    BeginTile();
  }

  bool done() const { return tile_ == queries_.count; }
  // All of them, until it is done.
  int64_t steps() const { return int64_t{queries_.count} * (RoundUp(tokens_, kStepTokens) / kTokens); }

  __attribute__((always_inline)) void Step() {
    if (done()) return;
    if (token_ == 0) MoveReference();
    float* const total = s_.total + tile_ * kTileRows;
    const __m512 shift = Vec512::Sub(Vec512::Zero(), Vec512::Load(s_.reference + tile_ * kTileRows));
    __m512 w[kTokens];
#pragma GCC unroll 4
    for (int i = 0; i < kTokens; ++i) {
      w[i] = Vec512::Exp2Cubic(Vec512::Fma(Vec512::Load(score_ + i * kTileUnits), Vec512::Set(kLog2e), shift));
    }
    if (__builtin_expect(token_ + kTokens > tokens_, 0)) {
#pragma GCC unroll 4
      for (int i = 0; i < kTokens; ++i) w[i] = token_ + i < tokens_ ? w[i] : Vec512::Zero();
    }
    Vec512::Store(total,
                  Vec512::Add(Vec512::Load(total), Vec512::Add(Vec512::Add(w[0], w[1]), Vec512::Add(w[2], w[3]))));
    _mm512_storeu_si512(pairs_, Pairs(w[0], w[1]));
    _mm512_storeu_si512(pairs_ + kTileUnits, Pairs(w[2], w[3]));
    token_ += kTokens;
    score_ += kTokens * kTileUnits;
    pairs_ += kTokens / 2 * kTileUnits;
    if (token_ % kTileRows == 0) score_ += next_tile_ - kTileSize;
    if (token_ % kStepTokens == 0) EndStep();
  }

 private:
  __attribute__((always_inline)) void BeginTile() {
    score_ = scores_ + queries_.First(tile_, kStripTokens / kTileRows) * kTileSize;
    pairs_ = s_.weights + queries_.First(tile_, kStripSteps) * kTileSize;
  }

  // Before the tile's first token: the strip's maximum, and what follows from it.
  __attribute__((always_inline)) void MoveReference() {
    Greatest greatest;
    const float* scores = score_;
    for (int token = 0; token < tokens_; token += kTileRows, scores += next_tile_) {
      greatest.Take(scores, kTileUnits, std::min(tokens_ - token, kTileRows));
    }

    float* const reference = s_.reference + tile_ * kTileRows;
    float* const total = s_.total + tile_ * kTileRows;
    const LazyReference next = LazyReference::Follow(Vec512::Load(reference), greatest.Of());
    Vec512::Store(reference, next.reference);
    Vec512::Store(total, Vec512::Mul(Vec512::Load(total), next.scale));
    Vec512::Store(s_.scale + tile_ * kTileRows, next.scale);
  }

  // Behind 32 tokens: their weights, 16 pairs of tokens by 16 queries, are turned where they lie.
  __attribute__((always_inline)) void EndStep() {
    uint32_t* const weights = pairs_ - kTileSize;
    __m512i rows[kTileRows];
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) rows[i] = Vec512::LoadUnits(weights + i * kTileUnits);
    Transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) _mm512_storeu_si512(weights + i * kTileUnits, rows[i]);
    pairs_ += next_tile_ - kTileSize;
    if (token_ < tokens_) return;
    token_ = 0;
    ++tile_;
    BeginTile();
  }

  const TileElScratch& s_;
  const QueryTiles queries_;
  const float* const scores_;
  const int tokens_;
  const int64_t next_tile_;  // from a tile of scores or weights to the next of the same queries
  int tile_;                 // of queries
  int token_ = 0;            // the next
  const float* score_;       // its
  uint32_t* pairs_;          // its and the following one's weights go here
};

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_STRIP_SOFTMAX_INL_H_
