// The tensors of one file, whatever its format: safetensors.h and pytorch_bin.h fill it, Checkpoint reads from it.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_WEIGHTS_FILE_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_WEIGHTS_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "engine/model/checkpoint/mapped_file.h"

namespace elserve {

// Dimensions of a tensor, at most, in every format.
inline constexpr size_t kMaxTensorRank = 8;

// Bytes of one number of a dtype by its name in safetensors; 0 for names that the table does not know.
int64_t DtypeBytes(std::string_view dtype);

// Numbers of a shape, all extents of which are at least 0; false if they do not fit an int64.
bool CountNumbers(std::span<const int64_t> shape, int64_t* numbers);

struct TensorEntry {
  std::string dtype;  // as safetensors names it: "F32"
  std::vector<int64_t> shape = {};
  // For F32, F16 and BF16: `bytes` in row-major order, aligned to the dtype. No tensor of another type is ever read.
  const std::byte* data = nullptr;
  int64_t bytes = 0;
};

class WeightsFile {
 public:
  explicit WeightsFile(MappedFile file) : file_(std::move(file)) {}

  const std::string& path() const { return file_.path(); }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  const std::map<std::string, TensorEntry, std::less<>>& tensors() const { return tensors_; }

  // Adds a tensor whose numbers lie at `entry.data`: row-major without `strides`, else those of each dimension, in
  // numbers. The caller has checked that all of them lie inside the file, and that the name is new. Numbers of the
  // types that are read are copied where they are not aligned (old writers did not pad) or not in row-major order;
  // tensors that are the same view share a copy. All copies together are at most as large as the file: INVALID_ARGUMENT
  // for a tensor that would take more, and RESOURCE_EXHAUSTED where there is no memory for one.
  absl::Status Add(const std::string& name, TensorEntry entry, std::span<const int64_t> strides = {});

  // INVALID_ARGUMENT: "<path>: <what>".
  absl::Status Error(std::string_view what) const;

 private:
  using View = std::tuple<const std::byte*, std::string, std::vector<int64_t>, std::vector<int64_t>>;
  absl::Status Copy(const std::string& name, std::span<const int64_t> strides, TensorEntry* entry);

  MappedFile file_;
  std::map<std::string, TensorEntry, std::less<>> tensors_;
  std::map<View, std::unique_ptr<std::byte[]>> copies_;
  int64_t copied_bytes_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_WEIGHTS_FILE_H_
