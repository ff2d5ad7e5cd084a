// One safetensors file: 8 bytes of header length (little endian), a JSON header {name: {dtype, shape, data_offsets}},
// then the tensors' bytes. https://huggingface.co/docs/safetensors: the data section holds the tensors without gaps or
// overlaps.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_SAFETENSORS_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/checkpoint/mapped_file.h"
#include "nlohmann/json_fwd.hpp"

namespace elserve {

// A tensor whose bytes lie inside the file and agree with dtype and shape.
struct SafetensorsEntry {
  std::string dtype;  // as the file names it: "F32"
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;  // aligned to the dtype
  int64_t bytes = 0;
};

class SafetensorsFile {
 public:
  // Maps the file and checks its header whole: at most 100 MB of it, every tensor's type, shape and place.
  static absl::StatusOr<std::unique_ptr<SafetensorsFile>> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, SafetensorsEntry, std::less<>>& tensors() const { return tensors_; }

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}
  absl::Status Error(std::string_view what) const;
  absl::Status ReadHeader();
  absl::StatusOr<SafetensorsEntry> ReadEntry(const std::string& name, const nlohmann::json& value,
                                             std::span<const std::byte> data) const;
  absl::Status CheckPlaces(std::span<const std::byte> data) const;
  // Copies what does not lie at a multiple of its type's size: old writers did not pad the header.
  absl::Status Align();

  MappedFile file_;
  std::map<std::string, SafetensorsEntry, std::less<>> tensors_;
  std::vector<std::unique_ptr<std::byte[]>> copies_;  // what Align copied
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_SAFETENSORS_H_
