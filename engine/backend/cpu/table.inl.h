// The kernels of one state type as a table.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_TABLE_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_TABLE_INL_H_

#include "engine/backend/cpu/cell_attention.inl.h"
#include "engine/backend/cpu/el_attention.inl.h"
#include "engine/backend/cpu/kernels.h"
#include "engine/backend/cpu/key_value_pages.inl.h"
#include "engine/backend/cpu/linear.inl.h"
#include "engine/backend/cpu/packed_attention.inl.h"
#include "engine/backend/cpu/rows.inl.h"
#include "engine/backend/cpu/state_types.inl.h"

namespace elserve::cpu {
namespace {

template <class S>
constexpr Kernels TableOf(Isa isa) {
  Kernels k{};
  k.isa = isa;
  k.panel = 2 * S::Vec::kLanes;
  k.pack = S::kPack;
  k.rows = S::kRows;
  k.rows_ahead = S::kRowsAhead;
  k.linear = &Linear<S>;
  k.to_state = &ToState<S>;
  k.from_state = &FromState<S>;
  k.pack_keys = &PackKeys<S>;
  k.pack_values = &PackValues<S>;
  k.packed_attention = &AttendPacked<S>;
  k.el_attention = &AttendEl<S>;
  k.cell_attention = &AttendCells<S>;
  k.norm = &Norm<S>;
  k.embed = &Embed<S>;
  k.select = &Select<S>;
  return k;
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_TABLE_INL_H_
