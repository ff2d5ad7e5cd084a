// The entries of a zip file that keeps them as they are, as torch.save writes it: each is a part of the file.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_ZIP_ARCHIVE_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_ZIP_ARCHIVE_H_

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace elserve {

inline constexpr size_t kMaxZipEntries = 100'000;
inline constexpr size_t kMaxZipNameBytes = 512;

struct ZipArchive {
  std::string first;  // the name of the first entry
  std::map<std::string, std::span<const std::byte>, std::less<>> entries;
};

// Reads the directory of a zip file that lies in memory; the entries are views of it. INVALID_ARGUMENT where an entry
// is compressed or encrypted, where two have one name or overlap, and where sizes and places do not fit the file.
absl::StatusOr<ZipArchive> ReadZipArchive(std::span<const std::byte> bytes);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_ZIP_ARCHIVE_H_
