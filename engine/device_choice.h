// From EngineOptions to the backend of a device.
#ifndef ELSERVE_ENGINE_DEVICE_CHOICE_H_
#define ELSERVE_ENGINE_DEVICE_CHOICE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/backend/backend.h"
#include "engine/engine.h"

namespace elserve {

struct ChosenDevice {
  std::unique_ptr<Backend> backend;
  std::string reason;  // "as configured", or what kAuto found
};

// kAuto: the first CUDA device where this build has the cuda backend and the device can be used, else the processor.
// Precision::kAuto: bfloat16 on a CUDA device, and on a processor that multiplies it. Errors name the option.
absl::StatusOr<ChosenDevice> ChooseDevice(const EngineOptions& options);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_DEVICE_CHOICE_H_
