#include "engine/model/checkpoint/zip_archive.h"

#include <minizip/unzip.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

// The file that minizip reads: bytes in memory.
struct Stream {
  std::span<const std::byte> bytes;
  uint64_t at = 0;
  bool fell_short = false;  // a read behind the end: minizip asks for errors, since it takes an end for success
};

zlib_filefunc64_def StreamFunctions(Stream* stream) {
  zlib_filefunc64_def functions = {};
  functions.opaque = stream;
  functions.zopen64_file = [](voidpf opaque, const void*, int) { return opaque; };
  functions.zread_file = [](voidpf opaque, voidpf, void* to, uLong size) -> uLong {
    auto* stream = static_cast<Stream*>(opaque);
    const uint64_t n = std::min<uint64_t>(size, stream->bytes.size() - stream->at);
    std::memcpy(to, stream->bytes.data() + stream->at, n);
    stream->at += n;
    stream->fell_short |= n < size;
    return n;
  };
  functions.ztell64_file = [](voidpf opaque, voidpf) -> ZPOS64_T { return static_cast<Stream*>(opaque)->at; };
  functions.zseek64_file = [](voidpf opaque, voidpf, ZPOS64_T offset, int origin) -> long {
    auto* stream = static_cast<Stream*>(opaque);
    const uint64_t size = stream->bytes.size();
    const uint64_t from = origin == ZLIB_FILEFUNC_SEEK_SET ? 0 : origin == ZLIB_FILEFUNC_SEEK_CUR ? stream->at : size;
    if (offset > size - from) return -1;
    stream->at = from + offset;
    return 0;
  };
  functions.zclose_file = [](voidpf, voidpf) { return 0; };
  functions.zerror_file = [](voidpf opaque, voidpf) { return static_cast<Stream*>(opaque)->fell_short ? 1 : 0; };
  return functions;
}

struct Closer {
  void operator()(void* zip) const { unzClose(zip); }
};

absl::Status Error(std::string_view name, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("zip entry ", Quoted(name), " ", std::string(what)));
}

absl::Status BadDirectory() {
  return absl::InvalidArgumentError(
      "not a whole zip file: its directory cannot be read; the file is truncated or spoilt");
}

// The part of `bytes` that the current entry is. `name` for messages.
absl::StatusOr<std::span<const std::byte>> Place(unzFile zip, const unz_file_info64& info, const std::string& name,
                                                 std::span<const std::byte> bytes) {
  if ((info.flag & 1) != 0) return Error(name, "is encrypted; expected it as it is");
  if (info.compression_method != 0) {
    return Error(name, absl::StrCat("is compressed by method ", info.compression_method,
                                    "; expected it stored as it is, as torch.save does"));
  }
  if (info.compressed_size != info.uncompressed_size) {
    return Error(name, absl::StrCat("has ", info.compressed_size, " bytes in the file and ", info.uncompressed_size,
                                    " outside; expected as many"));
  }
  // Compares the directory with the header that stands before the bytes, and finds where that ends.
  int method = 0;
  if (unzOpenCurrentFile2(zip, &method, nullptr, /*raw=*/1) != UNZ_OK) {
    return Error(name, "has another header where it lies than in the directory");
  }
  const uint64_t begin = unzGetCurrentFileZStreamPos64(zip);
  unzCloseCurrentFile(zip);
  const uint64_t size = info.uncompressed_size;
  if (size > bytes.size() || begin > bytes.size() - size) {
    return Error(name, absl::StrCat("has ", size, " bytes from byte ", begin, " on, but the file has ", bytes.size()));
  }
  return bytes.subspan(begin, size);
}

// One byte of the file must not be two entries': a small file could say that it is a large one.
absl::Status CheckOverlaps(const ZipArchive& archive) {
  std::vector<std::pair<std::span<const std::byte>, std::string_view>> places;
  for (const auto& [name, bytes] : archive.entries) {
    if (!bytes.empty()) places.emplace_back(bytes, name);
  }
  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.first.data() < b.first.data(); });
  for (size_t i = 1; i < places.size(); ++i) {
    if (places[i].first.data() < places[i - 1].first.data() + places[i - 1].first.size()) {
      return Error(places[i].second, absl::StrCat("overlaps entry ", Quoted(places[i - 1].second)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ZipArchive> ReadZipArchive(std::span<const std::byte> bytes) {
  Stream stream{bytes};
  zlib_filefunc64_def functions = StreamFunctions(&stream);
  const std::unique_ptr<void, Closer> zip(unzOpen2_64("", &functions));
  unz_global_info64 global = {};
  if (zip == nullptr || unzGetGlobalInfo64(zip.get(), &global) != UNZ_OK) return BadDirectory();
  if (global.number_entry > kMaxZipEntries) {
    return absl::InvalidArgumentError(
        absl::StrCat("the zip file has ", global.number_entry, " entries; expected at most ", kMaxZipEntries));
  }
  ZipArchive archive;
  for (uint64_t i = 0; i < global.number_entry; ++i) {
    if ((i == 0 ? unzGoToFirstFile(zip.get()) : unzGoToNextFile(zip.get())) != UNZ_OK) return BadDirectory();
    unz_file_info64 info = {};
    std::array<char, kMaxZipNameBytes + 1> text = {};
    if (unzGetCurrentFileInfo64(zip.get(), &info, text.data(), kMaxZipNameBytes, nullptr, 0, nullptr, 0) != UNZ_OK) {
      return BadDirectory();
    }
    if (info.size_filename > kMaxZipNameBytes) {
      return Error(text.data(),
                   absl::StrCat("has a name of ", info.size_filename, " bytes; expected at most ", kMaxZipNameBytes));
    }
    const std::string name(text.data(), info.size_filename);
    const absl::StatusOr<std::span<const std::byte>> place = Place(zip.get(), info, name, bytes);
    if (!place.ok()) return place.status();
    if (!archive.entries.emplace(name, *place).second) return Error(name, "stands twice; expected once");
    if (i == 0) archive.first = name;
  }
  if (absl::Status status = CheckOverlaps(archive); !status.ok()) return status;
  return archive;
}

}  // namespace elserve
