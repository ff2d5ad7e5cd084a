// A state dict as torch.save pickles it: names, and tensors that are views into storages. Where the storages' bytes lie
// is the business of the file around it (pytorch_bin.h).
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_STATE_DICT_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_STATE_DICT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace elserve {

struct PickledStorage {
  std::string type;     // as torch names it: "FloatStorage"
  int64_t numbers = 0;  // at least 0
  int64_t number_bytes = 0;
  int64_t bytes() const { return numbers * number_bytes; }  // fits
};

// All numbers of the view lie inside its storage, as far as the pickle says how large that is.
struct PickledTensor {
  std::string storage;  // its key
  std::string dtype;    // as safetensors names it: "F32"
  int64_t offset = 0;   // of the first number, in numbers
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in numbers, as long as `shape`, none negative
  int64_t numbers = 0;           // of the shape
};

struct StateDict {
  std::map<std::string, PickledStorage, std::less<>> storages;  // by key
  std::map<std::string, PickledTensor> tensors;                 // by name
};

// Reads the pickle at the beginning of `bytes`; `pickle_bytes` becomes its length. Values at the top that are no
// tensors are left out: transformers looks at a name that a model has, and at no other. INVALID_ARGUMENT names the
// tensor or the byte, what it is and what was expected; sparse and quantized tensors among them.
absl::StatusOr<StateDict> ReadStateDict(std::string_view bytes, size_t* pickle_bytes);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_STATE_DICT_H_
