// The backend that is meant to be read: every operation of backend.h as the plain loops of its definition, on one
// thread. It is the oracle that the other backends are tested against, and runs a whole engine (device "reference").
#ifndef ELSERVE_ENGINE_BACKEND_REFERENCE_REFERENCE_BACKEND_H_
#define ELSERVE_ENGINE_BACKEND_REFERENCE_REFERENCE_BACKEND_H_

#include <memory>

#include "engine/backend/backend.h"

namespace elserve {

// Values are stored as float32 and summed in float64. A layout or shape that backend.h does not allow ends the process
// with a message on standard error: the model code above broke its contract.
std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace elserve

#endif  // ELSERVE_ENGINE_BACKEND_REFERENCE_REFERENCE_BACKEND_H_
