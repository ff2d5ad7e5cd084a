// The activations of an encoder or a decoder, taken at load.
#ifndef ELSERVE_ENGINE_MODEL_ALLOCATE_H_
#define ELSERVE_ENGINE_MODEL_ALLOCATE_H_

#include <cstdint>
#include <initializer_list>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backend/backend.h"

namespace elserve {

struct Activations {
  Tensor* tensor;
  int64_t cols;  // 0: not needed
  Storage storage;
};

inline absl::Status Allocate(Backend& backend, int64_t positions, std::initializer_list<Activations> all) {
  for (const Activations& a : all) {
    if (a.cols == 0) continue;
    absl::StatusOr<Tensor> tensor = backend.AllocateTensor(positions, a.cols, a.storage);
    if (!tensor.ok()) return tensor.status();
    *a.tensor = *tensor;
  }
  return absl::OkStatus();
}

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_ALLOCATE_H_
