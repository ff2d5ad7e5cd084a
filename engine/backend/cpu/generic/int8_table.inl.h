// The kernels of int8 by VNNI as a table.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_TABLE_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_TABLE_INL_H_

#include "engine/backend/cpu/generic/int8_el_attention.inl.h"
#include "engine/backend/cpu/generic/int8_units.inl.h"
#include "engine/backend/cpu/generic/linear.inl.h"
#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

template <class S>
constexpr Int8Kernels Int8TableOf(const char* name) {
  using M = Int8Units<typename S::Vec>;
  return {.name = name,
          .panel = 2 * S::Vec::kLanes,
          .unit_step = 1,
          .offset = 128,
          .linear = &Linear<S, M>,
          .pack_panel = &PackPanel<S>,
          .quantize = &Quantize<S, 128>,
          .states = {.kept_bytes = &KeptInt8Bytes,
                     .page_bytes = &Int8PageBytes,
                     .keep = &KeepInt8<S>,
                     .restore = &RestoreInt8<S>,
                     .store_page = &StoreInt8Page,
                     .most_queries = kElQueries,
                     .scratch_floats = &Int8ElScratchFloats<typename S::Vec>,
                     .attend = &AttendInt8El<S>},
          .states_name = name};
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_INT8_TABLE_INL_H_
