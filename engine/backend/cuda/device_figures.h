// What a card can reach at most, from what it says of itself and the data sheets, and what is expected of it: for the
// choice between el and kv, and for figures to be compared with.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_DEVICE_FIGURES_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_DEVICE_FIGURES_H_

#include "engine/backend/backend.h"

namespace elserve::cuda {

struct CardClocks {
  int major = 8, minor = 0;  // compute capability
  int processors = 0;        // multiprocessors
  double clock_hertz = 0;
  double memory_hertz = 0;  // two transfers each
  int memory_bits = 0;      // of the bus
};

// The data sheet's peak, whatever the operation.
OperationFigures PeakFigures(const CardClocks& card, DataType type);
// The part of it that the memory plan counts on.
OperationFigures AssumedFigures(const CardClocks& card, DataType type);

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_DEVICE_FIGURES_H_
