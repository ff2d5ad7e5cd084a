// Compiled with AVX512 F, BW, DQ, VL and BF16, AMX-TILE and AMX-BF16: products with packed panels by tiles.
#include "engine/backend/cpu/amx/tiles.inl.h"
#include "engine/backend/cpu/avx512_bf16/dot_bf16.inl.h"
#include "engine/backend/cpu/generic/table.inl.h"

namespace elserve::cpu {
namespace {

struct TileBf16State : DotBf16State {
  static constexpr bool kTiles = true;
  static constexpr int kRows = 2 * kTileRows, kRowsAhead = kTileRows - 1;

  static void StorePanel(int rows, int64_t units, const uint32_t* a, int64_t row_stride, const uint32_t* panel,
                         float* out, int64_t ldc) {
    ConfigureTiles();
    ClearTiles(rows);
    MultiplyPanel(rows, units, a, row_stride, panel);
    StoreTiles(rows, out, ldc);
  }

  template <class Panel>
  static void AddPanels(int rows, int pages, int64_t units, const uint32_t* a, int64_t row_stride, const Panel& panel,
                        float* out, int64_t ldc, const float* scale) {
    ConfigureTiles();
    ClearTiles(rows);
    for (int page = 0; page < pages; ++page) MultiplyPanel(rows, units, a + page * units, row_stride, panel(page));
    alignas(64) float sums[kRows * kTilePanel];
    StoreTiles(rows, sums, kTilePanel);
    for (int m = 0; m < rows; ++m) {
      const __m512 s = Vec512::Set(scale[m]);
      for (int n = 0; n < kTilePanel; n += Vec512::kLanes) {
        float* to = out + m * ldc + n;
        Vec512::Store(to, Vec512::Fma(Vec512::Load(to), s, Vec512::Load(sums + m * kTilePanel + n)));
      }
    }
  }

  static void Leave() { LeaveTiles(); }
};

}  // namespace

const Kernels& AmxKernels() {
  static constexpr Kernels kTable = TableOf<TileBf16State>(Isa::kAmx);
  return kTable;
}

}  // namespace elserve::cpu
