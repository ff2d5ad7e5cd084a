// The two products of EL-attention on tiles: S^T = H q~^T, whose tiles of H are the first operand as they lie, and
// O += P H, whose second operand is the same tiles with pairs of tokens interleaved. The tile unit needs 16 cycles for
// a product: between two of them stands a piece of other work for the vector units, as `Work` does it.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_PRODUCTS_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_PRODUCTS_INL_H_

#include <cstdint>
#include <utility>

#include "engine/backend/cpu/amx/tile_el_scratch.inl.h"
#include "engine/backend/cpu/amx/tile_instructions.inl.h"
#include "engine/backend/cpu/avx512/vec512.inl.h"

namespace elserve::cpu {
namespace {

// Units of a step's 32 tokens and a panel's 32 columns.
inline constexpr int kStepUnits = kStepTokens / kTileRows * kTileSize;

// A strip's tokens in the pages: each step's tiles are [panels][2 of 16 tokens].
struct StripStates {
  const uint32_t* step[kStripSteps];
  int steps;
  int tokens;
  int64_t panels;
};

// Sums are tiles 0 to n - 1.
template <int... kSum>
void ZeroSums(std::integer_sequence<int, kSum...>) {
  (ZeroTile<kSum>(), ...);
}
template <int... kSum>
void LoadSums(std::integer_sequence<int, kSum...>, const float* from) {
  (LoadTile<kSum>(from + kSum * kTileSize, kTileBytes), ...);
}
template <int... kSum>
void StoreSums(std::integer_sequence<int, kSum...>, float* to) {
  (StoreTile<kSum>(to + kSum * kTileSize, kTileBytes), ...);
}
template <int kTile, class T>
void LoadWholeTile(const T* from) {
  LoadTile<kTile>(from, kTileBytes);
}

// Scores of 32 tokens and one tile of queries, which is tile 7.
template <int kSum>
void MultiplyTokens(const uint32_t* states) {
  LoadWholeTile<4>(states);
  MultiplyTiles<kSum, 4, 7>();
  LoadWholeTile<5>(states + kTileSize);
  MultiplyTiles<kSum + 1, 5, 7>();
}

// Scores of 32 tokens and a group of queries, over 32 columns. Sums: [2 of 16 tokens][group].
template <int kGroup>
void MultiplyScores(const uint32_t* states, const uint32_t* q) {
  if constexpr (kGroup == 1) {
    LoadWholeTile<7>(q);
    MultiplyTokens<0>(states);
  } else if constexpr (kGroup == 2) {
    LoadWholeTile<4>(states);
    LoadWholeTile<6>(q);
    MultiplyTiles<0, 4, 6>();
    LoadWholeTile<7>(q + kTileSize);
    MultiplyTiles<1, 4, 7>();
    LoadWholeTile<5>(states + kTileSize);
    MultiplyTiles<2, 5, 6>();
    MultiplyTiles<3, 5, 7>();
  } else {
    // Six sums leave two tiles: q's come again, the last one first.
    LoadWholeTile<6>(states);
    LoadWholeTile<7>(q);
    MultiplyTiles<0, 6, 7>();
    LoadWholeTile<7>(q + kTileSize);
    MultiplyTiles<1, 6, 7>();
    LoadWholeTile<7>(q + 2 * kTileSize);
    MultiplyTiles<2, 6, 7>();
    LoadWholeTile<6>(states + kTileSize);
    MultiplyTiles<5, 6, 7>();
    LoadWholeTile<7>(q + kTileSize);
    MultiplyTiles<4, 6, 7>();
    LoadWholeTile<7>(q);
    MultiplyTiles<3, 6, 7>();
  }
}

// A group's scores of a strip. Calls work() once for each step and panel.
template <int kGroup, class Work>
__attribute__((always_inline)) inline void GroupScores(const StripStates& strip, const uint32_t* q, float* scores,
                                                       Work&& work) {
  constexpr std::make_integer_sequence<int, 2 * kGroup> kSums;
  int step = 0;
  if constexpr (kGroup == 1) {
    // Four tiles of tokens for one of queries.
    constexpr std::make_integer_sequence<int, 4> kFour;
    for (; step + 2 <= strip.steps; step += 2, scores += 4 * kTileSize) {
      const uint32_t *first = strip.step[step], *second = strip.step[step + 1], *at = q;
      ZeroSums(kFour);
      for (int64_t panel = 0; panel < strip.panels; ++panel) {
        MultiplyScores<1>(first, at);
        work();
        MultiplyTokens<2>(second);
        work();
        first += kStepUnits;
        second += kStepUnits;
        at += kTileSize;
      }
      StoreSums(kFour, scores);
    }
  }
  for (; step < strip.steps; ++step, scores += 2 * kGroup * kTileSize) {
    const uint32_t *states = strip.step[step], *at = q;
    ZeroSums(kSums);
    for (int64_t panel = 0; panel < strip.panels; ++panel) {
      MultiplyScores<kGroup>(states, at);
      work();
      states += kStepUnits;
      at += kGroup * kTileSize;
    }
    StoreSums(kSums, scores);
  }
}

// A strip's tiles for the second product, made two steps before it takes them, in a ring that stays in the first-level
// cache. A step's place in the ring: its number in the order [panels][steps], over and over.
class ValueRing {
 public:
  static constexpr int kAhead = 2, kPairs = kStepTokens / 2;

  // `groups` of queries read a panel's tiles one after the other, so a panel has to stay; alone, a step does.
  __attribute__((always_inline)) ValueRing(const StripStates& strip, uint32_t* slots, int groups)
      : strip_(strip), slots_(slots), size_(groups == 1 ? 2 * kAhead : strip.steps + kAhead) {
    for (int i = 0; i < kAhead; ++i) Interleave(0, kPairs);
  }

  const uint32_t* Slot(int slot) const { return slots_ + slot * kStepUnits; }
  int Next(int slot) const { return slot + 1 == size_ ? 0 : slot + 1; }

  // Pairs [begin, end) of the next step's 16. Behind the last panel comes the first again, which nobody reads.
  __attribute__((always_inline)) void Interleave(int begin, int end) {
    const uint32_t* const states = strip_.step[step_] + panel_ * kStepUnits;
    uint32_t* const to = slots_ + slot_ * kStepUnits;
#pragma GCC unroll 16
    for (int pair = begin; pair < end; ++pair) {
      const uint32_t* const even = states + 2 * pair * kTileUnits;
      __m512i low, high;
      Vec512::ZipBf16(even, even + kTileUnits, &low, &high);
      _mm512_storeu_si512(to + pair * kTileUnits, low);
      _mm512_storeu_si512(to + kTileSize + pair * kTileUnits, high);
    }
    if (end < kPairs) return;
    slot_ = Next(slot_);
    if (++step_ < strip_.steps) return;
    step_ = 0;
    if (++panel_ == strip_.panels) panel_ = 0;
  }

 private:
  const StripStates& strip_;
  uint32_t* const slots_;
  const int size_;
  int slot_ = 0;  // where the next step goes
  int step_ = 0;
  int64_t panel_ = 0;
};

// Sums of 32 columns += weights of 32 tokens by their states. Sums: [group][2 of 16 columns]. Calls work(begin, end)
// for all parts of 16 in their order.
template <int kGroup, class Work>
__attribute__((always_inline)) inline void MultiplyValues(const uint32_t* weights, const uint32_t* values,
                                                          Work&& work) {
  if constexpr (kGroup == 1) {
    LoadWholeTile<4>(weights);
    LoadWholeTile<6>(values);
    MultiplyTiles<0, 4, 6>();
    work(0, 8);
    LoadWholeTile<7>(values + kTileSize);
    MultiplyTiles<1, 4, 7>();
    work(8, 16);
  } else if constexpr (kGroup == 2) {
    LoadWholeTile<6>(values);
    LoadWholeTile<4>(weights);
    MultiplyTiles<0, 4, 6>();
    work(0, 4);
    LoadWholeTile<5>(weights + kTileSize);
    MultiplyTiles<2, 5, 6>();
    work(4, 8);
    LoadWholeTile<7>(values + kTileSize);
    MultiplyTiles<1, 4, 7>();
    work(8, 12);
    MultiplyTiles<3, 5, 7>();
    work(12, 16);
  } else {
    LoadWholeTile<7>(values);
    LoadWholeTile<6>(weights);
    MultiplyTiles<0, 6, 7>();
    work(0, 3);
    LoadWholeTile<6>(weights + kTileSize);
    MultiplyTiles<2, 6, 7>();
    work(3, 6);
    LoadWholeTile<6>(weights + 2 * kTileSize);
    MultiplyTiles<4, 6, 7>();
    work(6, 9);
    LoadWholeTile<7>(values + kTileSize);
    MultiplyTiles<5, 6, 7>();
    work(9, 12);
    LoadWholeTile<6>(weights + kTileSize);
    MultiplyTiles<3, 6, 7>();
    work(12, 14);
    LoadWholeTile<6>(weights);
    MultiplyTiles<1, 6, 7>();
    work(14, 16);
  }
}

// A group's sums of one panel over a strip, whose first step's tiles are in `slot` of the ring. `first`: there are no
// sums yet. Returns the slot behind the last step's.
template <int kGroup, class Work>
__attribute__((always_inline)) inline int GroupValues(const uint32_t* weights, const ValueRing& ring, int slot,
                                                      int steps, bool first, float* sums, Work&& work) {
  constexpr std::make_integer_sequence<int, 2 * kGroup> kSums;
  if (first) {
    ZeroSums(kSums);
  } else {
    LoadSums(kSums, sums);
  }
  for (int step = 0; step < steps; ++step, weights += kGroup * kTileSize) {
    MultiplyValues<kGroup>(weights, ring.Slot(slot), work);
    slot = ring.Next(slot);
  }
  StoreSums(kSums, sums);
  return slot;
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_EL_PRODUCTS_INL_H_
