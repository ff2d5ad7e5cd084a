// Compiled with AVX512 F, BW, DQ, VL and BF16, AMX-TILE, AMX-BF16 and AMX-INT8: products and attention by tiles.
#include "engine/backend/cpu/amx/tile_el_attention.inl.h"
#include "engine/backend/cpu/amx/tile_linear.inl.h"
#include "engine/backend/cpu/amx/tile_packed_attention.inl.h"
#include "engine/backend/cpu/avx512_bf16/dot_bf16.inl.h"
#include "engine/backend/cpu/generic/int8_units.inl.h"
#include "engine/backend/cpu/generic/table.inl.h"

namespace elserve::cpu {
namespace {

constexpr Kernels TileKernels() {
  Kernels k = TableOf<DotBf16State>(Isa::kAmx);
  static_assert(2 * Vec512::kLanes == kTilePanel);
  k.unit_step = kTileUnits;
  k.rows_ahead = kBlockRows - 1;
  k.row_block = 128;
  k.row_block_bytes = 768 << 10;  // of a second-level cache of 2 MiB
  k.linear = &LinearByTiles<DotBf16State>;
  k.pack_panel = &PackTilePanel;
  k.page_units = &TilePageUnits;
  k.pack_page = &PackTilePage;
  k.packed_scratch_floats = &TilePackedScratchFloats;
  k.packed_attention = &AttendPackedByTiles;
  k.states.store_page = &StoreStateTiles;
  k.states.most_queries = kMostTileQueries;
  k.states.scratch_floats = &TileElScratchFloats;
  k.states.attend = &AttendElByTiles;
  // They read the pages of the level below.
  k.approximate_packed = nullptr;
  k.approximate_el = nullptr;
  return k;
}

}  // namespace

const Kernels& AmxKernels() {
  static constexpr Kernels kTable = TileKernels();
  return kTable;
}

const Int8Kernels& AmxInt8Kernels() {
  static const Int8Kernels kTable = {.name = "AMX-INT8",
                                     .panel = kTilePanel,
                                     .unit_step = kTileUnits,
                                     .offset = 0,
                                     .linear = &LinearByTiles<DotBf16State, true>,
                                     .pack_panel = &PackTilePanel,
                                     .quantize = &Quantize<DotBf16State, 0>,
                                     .states = Avx512VnniKernels().states,
                                     .states_name = Avx512VnniKernels().states_name};
  return kTable;
}

}  // namespace elserve::cpu
