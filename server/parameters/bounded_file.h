// Files of which nobody promised how long they are.
#ifndef ELSERVE_SERVER_PARAMETERS_BOUNDED_FILE_H_
#define ELSERVE_SERVER_PARAMETERS_BOUNDED_FILE_H_

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace elserve {

// The whole file. NOT_FOUND where it cannot be opened, INVALID_ARGUMENT where it has more bytes, both with its path.
absl::StatusOr<std::string> ReadBoundedFile(const std::filesystem::path& path, uintmax_t max_bytes);

}  // namespace elserve

#endif  // ELSERVE_SERVER_PARAMETERS_BOUNDED_FILE_H_
