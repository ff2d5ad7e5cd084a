// Linear by tiles: blocks of 32 rows by a panel of 32 columns (two by two tiles), or of 16 rows by two panels (one by
// four). What follows a block's sums (bias, activation, residual, or LogitEpilogue) runs a few rows at a time between
// the tile instructions of the next block, so that the vector units work while the tile unit does.
//
// Tiles are always whole: products read rows of A up to a multiple of 32, and nobody looks at the sums of rows that
// are not there. A row's sum runs over its units in order, whatever the other rows are.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_LINEAR_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_LINEAR_INL_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/amx/fetch.inl.h"
#include "engine/backend/cpu/amx/tile_instructions.inl.h"
#include "engine/backend/cpu/amx/tile_layout.inl.h"
#include "engine/backend/cpu/generic/linear.inl.h"
#include "engine/backend/cpu/generic/logit_epilogue.inl.h"

namespace elserve::cpu {
namespace {

inline constexpr int kTilePanel = 2 * kTileUnits;  // columns
inline constexpr int kTileStep = 2 * kTileSize;    // units of a panel in a step: its two tiles
inline constexpr int kBlockRows = 2 * kTileRows;   // of two by two tiles
inline constexpr int kBlockSums = kBlockRows * kTilePanel;

// Rows [kTilePanel, units] -> a panel: [steps of 16 units][2 tiles of 16 columns][16 units][16 columns], zeros behind
// the last unit.
inline void PackTilePanel(const uint32_t* rows, int64_t units, uint32_t* panel) {
  std::memset(panel, 0, static_cast<size_t>(RoundUp(units, kTileUnits)) * kTilePanel * 4);
  for (int column = 0; column < kTilePanel; ++column) {
    for (int64_t u = 0; u < units; ++u) {
      const int64_t tile = u / kTileUnits * 2 + column / kTileUnits;
      panel[tile * kTileSize + u % kTileUnits * kTileUnits + column % kTileUnits] = rows[column * units + u];
    }
  }
}

// Some rows of A that a block multiplies, and what it reads them with.
struct TileRows {
  const uint32_t* a;
  int64_t stride;  // units
  int64_t units;
  int rows;  // that are there: of a last step that is not whole no other may be read

  // The last units of `count` rows, with zeros behind them, as a tile each of 16 rows.
  void Tail(int count, uint32_t* to) const {
    const int64_t whole = units / kTileUnits * kTileUnits;
    std::memset(to, 0, static_cast<size_t>(count) * kTileBytes);
    for (int m = 0; m < std::min(count, rows); ++m) {
      std::memcpy(to + m * kTileUnits, a + m * stride + whole, static_cast<size_t>(units - whole) * 4);
    }
  }
};

// Tile kSum += tile kA times tile kB, of bfloat16 or of integers.
template <bool kInt8, int kSum, int kA, int kB>
inline void Multiply() {
  if constexpr (kInt8) {
    MultiplyInt8Tiles<kSum, kA, kB>();
  } else {
    MultiplyTiles<kSum, kA, kB>();
  }
}

// A block's four sums, tiles 0 to 3: side by side, then those of the rows or of the panel behind.
inline void ZeroBlock() {
  ZeroTile<0>();
  ZeroTile<1>();
  ZeroTile<2>();
  ZeroTile<3>();
}
inline void StoreBlock(float* sums) {
  constexpr int64_t kRow = kTilePanel * 4;
  float* const behind = sums + kTileRows * kTilePanel;
  StoreTile<0>(sums, kRow);
  StoreTile<1>(sums + kTileUnits, kRow);
  StoreTile<2>(behind, kRow);
  StoreTile<3>(behind + kTileUnits, kRow);
}

// Sums [32, kTilePanel] of 32 rows and a panel. `between` runs once a step.
template <bool kInt8, class Between>
__attribute__((always_inline)) inline void MultiplyTwoByTwo(const TileRows& r, const uint32_t* panel, float* sums,
                                                            Between&& between) {
  ZeroBlock();
  const auto step = [&panel](const uint32_t* first, const uint32_t* second, int64_t stride)
      __attribute__((always_inline)) {
    LoadTile<4>(first, stride);
    LoadTile<6>(panel, kTileBytes);
    Multiply<kInt8, 0, 4, 6>();
    LoadTile<7>(panel + kTileSize, kTileBytes);
    Multiply<kInt8, 1, 4, 7>();
    LoadTile<5>(second, stride);
    Multiply<kInt8, 2, 5, 6>();
    Multiply<kInt8, 3, 5, 7>();
    panel += kTileStep;
  };
  const uint32_t* first = r.a;
  const uint32_t* second = r.a + kTileRows * r.stride;
  for (int64_t u = 0; u + kTileUnits <= r.units; u += kTileUnits) {
    step(first, second, r.stride * 4);
    first += kTileUnits;
    second += kTileUnits;
    between();
  }
  if (r.units % kTileUnits != 0) {
    alignas(64) uint32_t tail[2 * kTileSize];
    r.Tail(kBlockRows, tail);
    step(tail, tail + kTileSize, kTileBytes);
  }
  StoreBlock(sums);
}

// Sums [2 panels][16, kTilePanel] of 16 rows: few rows leave half of the tiles above idle.
template <bool kInt8, class Between>
__attribute__((always_inline)) inline void MultiplyOneByFour(const TileRows& r, const uint32_t* panel,
                                                             const uint32_t* next, float* sums, Between&& between) {
  ZeroBlock();
  const auto step = [&panel, &next ](const uint32_t* a, int64_t stride) __attribute__((always_inline)) {
    LoadTile<4>(a, stride);
    LoadTile<6>(panel, kTileBytes);
    Multiply<kInt8, 0, 4, 6>();
    LoadTile<7>(panel + kTileSize, kTileBytes);
    Multiply<kInt8, 1, 4, 7>();
    LoadTile<5>(next, kTileBytes);
    Multiply<kInt8, 2, 4, 5>();
    LoadTile<6>(next + kTileSize, kTileBytes);
    Multiply<kInt8, 3, 4, 6>();
    panel += kTileStep;
    next += kTileStep;
  };
  const uint32_t* a = r.a;
  for (int64_t u = 0; u + kTileUnits <= r.units; u += kTileUnits) {
    step(a, r.stride * 4);
    a += kTileUnits;
    between();
  }
  if (r.units % kTileUnits != 0) {
    alignas(64) uint32_t tail[kTileSize];
    r.Tail(kTileRows, tail);
    step(tail, kTileBytes);
  }
  StoreBlock(sums);
}

// One task's product. kInt8: of integers.
template <class S, bool kInt8>
class TileLinear {
 public:
  explicit TileLinear(const LinearBlock& b)
      : b_(b),
        logits_(b),
        panel_units_(RoundUp(b.units, kTileUnits) * kTilePanel),
        steps_(b.units / kTileUnits),
        few_(b.rows <= kTileRows),
        // Enough rows a step that the block before is finished when this one is.
        quota_(static_cast<int>((kBlockRows + steps_ - 1) / std::max<int64_t>(1, steps_))) {}

  void Run() {
    if (b_.logits) logits_.Begin();
    LoadTileConfig(kWholeTiles);
    for (int panel = b_.panel_begin; panel < b_.panel_end;) {
      const int panels = few_ && !b_.gated && panel + 1 < b_.panel_end ? 2 : 1;
      FetchNext(panel + panels, panels);
      for (int row = 0; row < b_.rows; row += kBlockRows) Block(panel, panels, row);
      panel += panels;
    }
    Finish(2 * kBlockRows);
    ReleaseTiles();
    if (b_.logits) logits_.End();
  }

 private:
  // A block whose sums are there and wait for what follows them.
  struct Waiting {
    float* sums = nullptr;      // [rows, kTilePanel] of its panels
    int panel = 0, panels = 0;  // those that are left
    int row = 0, rows = 0;      // of the task
    int done = 0;               // rows of the first panel that is left
  };

  const uint32_t* Panel(int64_t stored) const { return b_.panels + stored * panel_units_; }

  // The panels from `panel` on, while those before it are multiplied.
  void FetchNext(int panel, int panels) {
    const int64_t parts = (b_.rows + kBlockRows - 1) / kBlockRows, stored = b_.gated ? 2 : 1;
    const uint32_t* next = panel < b_.panel_end ? Panel(stored * panel) : b_.next_panels;
    const int64_t products = b_.gated && !few_ ? 2 * parts : parts;
    fetch_ = Fetch(next, stored * panels * panel_units_, products * steps_);
  }

  void Block(int panel, int panels, int row) {
    const int rows = std::min(kBlockRows, b_.rows - row);
    const TileRows a{b_.a + row * b_.a_stride, b_.a_stride, b_.units, rows};
    float* sums = sums_[flip_];
    const auto between = [this]() __attribute__((always_inline)) { Between(); };
    const int64_t stored = b_.gated ? 2 * panel : panel;
    if (few_) {
      // The second panel: the up columns, or the next, or any where there is none.
      const uint32_t* second = Panel(b_.gated || panels == 2 ? stored + 1 : stored);
      MultiplyOneByFour<kInt8>(a, Panel(stored), second, sums, between);
    } else {
      MultiplyTwoByTwo<kInt8>(a, Panel(stored), sums, between);
      if (b_.gated) MultiplyTwoByTwo<kInt8>(a, Panel(stored + 1), sums + kBlockSums, between);
    }
    Finish(2 * kBlockRows);
    waiting_ = {.sums = sums, .panel = panel, .panels = panels, .row = row, .rows = rows};
    flip_ ^= 1;
  }

  __attribute__((noinline)) void Between() {
    fetch_();
    Finish(quota_);
  }

  // What follows the waiting block's sums, for up to `most` more of its rows.
  void Finish(int most) {
    Waiting& w = waiting_;
    while (most > 0 && w.panels > 0) {
      const int rows = std::min(most, w.rows - w.done);
      FinishRows(w.panel, w.sums + w.done * kTilePanel, w.row + w.done, rows);
      most -= rows;
      w.done += rows;
      if (w.done < w.rows) continue;
      w.sums += kTileRows * kTilePanel;
      w.done = 0;
      ++w.panel;
      --w.panels;
    }
  }

  void FinishRows(int panel, float* sums, int row, int rows) {
    float* const up = sums + (few_ ? kTileRows * kTilePanel : kBlockSums);
    if constexpr (kInt8) {
      const int64_t stored = static_cast<int64_t>(b_.gated ? 2 : 1) * panel;
      DequantizeTiles({.sums = sums, .row = row, .rows = rows, .width = kTilePanel, .panel = stored});
      if (b_.gated) {
        DequantizeTiles({.sums = up, .row = row, .rows = rows, .width = kTilePanel, .panel = stored + 1});
      }
    }
    if (b_.logits) return logits_.Take({.sums = sums, .stride = kTilePanel, .row = row, .rows = rows, .panel = panel});
    const int64_t begin = static_cast<int64_t>(panel) * kTilePanel;
    PanelSums p{.sums = sums, .stride = kTilePanel, .bias = b_.bias + (b_.gated ? 2 : 1) * begin};
    if (b_.gated) {
      p.up = up;
      p.up_bias = p.bias + kTilePanel;
    }
    const int64_t width = std::min<int64_t>(b_.cols - begin, kTilePanel);
    b_.gated ? FinishLinear<S, true>(b_, p, row, rows, begin, width)
             : FinishLinear<S, false>(b_, p, row, rows, begin, width);
  }

  // By panels as PackTilePanel lays them.
  void DequantizeTiles(const IntegerSums& p) const {
    Dequantize<Vec512>(b_, p, [this](int64_t panel, int64_t u, int64_t vector) {
      return Panel(panel) + (u / kTileUnits * 2 + vector) * kTileSize + u % kTileUnits * kTileUnits;
    });
  }

  const LinearBlock& b_;
  const LogitEpilogue<S> logits_;
  const int64_t panel_units_;
  const int64_t steps_;  // whole ones
  const bool few_;       // rows: one by four
  const int quota_;
  Fetch fetch_;
  Waiting waiting_;
  int flip_ = 0;
  alignas(64) float sums_[2][2 * kBlockSums];
};

template <class S, bool kInt8 = false>
void LinearByTiles(const LinearBlock& b) {
  TileLinear<S, kInt8>(b).Run();
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_AMX_TILE_LINEAR_INL_H_
