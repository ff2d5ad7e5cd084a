// Whether the cuda backend can be tested here.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CUDA_CUDA_UNDER_TEST_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CUDA_CUDA_UNDER_TEST_H_

#include <cstdlib>
#include <iostream>

#include "engine/backend/cuda/cuda_backend.h"

namespace elserve {

// False where there is no device: said once on standard error. With ELSERVE_NEED_GPU set (`make test-gpu`) the process
// ends instead, since tests that skip themselves show nothing.
inline bool CudaIsUnderTest() {
  static const bool usable = [] {
    const auto backend = MakeCudaBackend({});
    if (backend.ok()) {
      std::cerr << "cuda is tested on " << (*backend)->device_name() << "\n";
    } else {
      std::cerr << "cuda is NOT tested: " << backend.status().message() << "\n";
      if (std::getenv("ELSERVE_NEED_GPU") != nullptr) std::exit(EXIT_FAILURE);
    }
    return backend.ok();
  }();
  return usable;
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CUDA_CUDA_UNDER_TEST_H_
