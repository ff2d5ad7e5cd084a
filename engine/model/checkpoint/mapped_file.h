// A file mapped read-only for as long as the object lives.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_MAPPED_FILE_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_MAPPED_FILE_H_

#include <cstddef>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace elserve {

class MappedFile {
 public:
  // Errors name the path: NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT for what is not a regular file. The file
  // must not be truncated while it is mapped: reading behind its new end would end the process.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes) : path_(std::move(path)), bytes_(bytes) {}

  std::string path_;
  std::span<const std::byte> bytes_;  // empty: nothing is mapped
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_MAPPED_FILE_H_
