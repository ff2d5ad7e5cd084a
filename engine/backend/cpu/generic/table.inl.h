// The kernels of one state type as a table.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_TABLE_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_TABLE_INL_H_

#include "engine/backend/cpu/generic/approximate_attention.inl.h"
#include "engine/backend/cpu/generic/cell_attention.inl.h"
#include "engine/backend/cpu/generic/el_attention.inl.h"
#include "engine/backend/cpu/generic/favor_attention.inl.h"
#include "engine/backend/cpu/generic/key_value_pages.inl.h"
#include "engine/backend/cpu/generic/linear.inl.h"
#include "engine/backend/cpu/generic/packed_attention.inl.h"
#include "engine/backend/cpu/generic/rows.inl.h"
#include "engine/backend/cpu/generic/select.inl.h"
#include "engine/backend/cpu/generic/state_types.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

template <class S>
constexpr Kernels TableOf(Isa isa) {
  Kernels k{};
  k.isa = isa;
  k.panel = 2 * S::Vec::kLanes;
  k.pack = S::kPack;
  k.unit_step = 1;
  k.row_block = 64;
  k.linear = &Linear<S>;
  k.wide_numbers = &WideNumbers<S>;
  k.pack_panel = &PackPanel<S>;
  k.to_state = &ToState<S>;
  k.from_state = &FromState<S>;
  k.page_units = &PageUnits<S>;
  k.pack_page = &PackPage<S>;
  k.packed_scratch_floats = &PackedScratchFloats<S>;
  k.packed_attention = &AttendPacked<S>;
  k.states = {.kept_bytes = &KeptStateBytes<S>,
              .page_bytes = &StatePageBytes<S>,
              .keep = &KeepState<S>,
              .restore = &RestoreState<S>,
              .store_page = &StoreStates<S>,
              .most_queries = kElQueries,
              .scratch_floats = &ElScratchFloats<S>,
              .attend = &AttendEl<S>};
  k.approximate_packed_floats = &ApproximatePackedFloats<S>;
  k.approximate_packed = &ApproximatePacked<S>;
  k.approximate_el_floats = &ApproximateElFloats;
  k.approximate_el = &ApproximateEl<S>;
  k.keep_largest = &KeepLargest<S>;
  k.cell_scratch_floats = &CellScratchFloats<S>;
  k.cell_attention = &AttendCells<S>;
  k.favor_scratch_floats = &FavorScratchFloats<S>;
  k.favor_sums = &SumFavor<S>;
  k.norm = &Norm<S>;
  k.embed = &Embed<S>;
  k.select = &Select<S>;
  return k;
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_TABLE_INL_H_
