// What one thread reaches with the kernels of each instruction set, measured by tests/bench/operations_bench.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_THREAD_FIGURES_H_
#define ELSERVE_ENGINE_BACKEND_CPU_THREAD_FIGURES_H_

#include "engine/backend/backend.h"
#include "engine/backend/cpu/isa.h"

namespace elserve::cpu {

struct ThreadFigures {
  OperationFigures operations;
  int rows;           // of a decode step: with more a row gets hardly cheaper
  int encode_tokens;  // a step: with fewer, products lose speed
};

// isa: Kernels::isa of tables of that state type. Half of what two threads reach at BART-base's shapes.
const ThreadFigures& FiguresOf(Isa isa, DataType state_type);

}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_THREAD_FIGURES_H_
