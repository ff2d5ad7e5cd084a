// The kernels that this program has, by the names of its own symbol table.
#ifndef ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_KERNEL_LIST_H_
#define ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_KERNEL_LIST_H_

#include <map>
#include <string>

namespace elserve::cuda_emulation {

// Every instance of every kernel of elserve::cuda, and its function.
std::map<std::string, const void*> AllKernels();

}  // namespace elserve::cuda_emulation

#endif  // ELSERVE_TESTS_ENGINE_BACKEND_CUDA_EMULATION_KERNEL_LIST_H_
