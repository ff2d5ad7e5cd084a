#include "engine/model/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/bounded_json.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

constexpr int64_t kPrefixBytes = 8;               // the header's length
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // as the safetensors library has it
constexpr size_t kMaxRank = 8;

// Bytes of one number of `dtype`; 0 for types that this table does not know, whose sizes stay unchecked: no tensor of
// them is ever read.
int64_t BytesOf(std::string_view dtype) {
  struct Row {
    std::string_view dtype;
    int64_t bytes;
  };
  constexpr std::array kTypes = {Row{"F32", 4}, Row{"F16", 2}, Row{"BF16", 2}, Row{"F64", 8}, Row{"I64", 8},
                                 Row{"U64", 8}, Row{"I32", 4}, Row{"U32", 4},  Row{"I16", 2}, Row{"U16", 2},
                                 Row{"I8", 1},  Row{"U8", 1},  Row{"BOOL", 1}};
  for (const Row& row : kTypes) {
    if (row.dtype == dtype) return row.bytes;
  }
  return 0;
}

// The whole numbers of a JSON list, all at least 0; false if it is anything else.
bool ReadNumbers(const nlohmann::json& list, size_t most, std::vector<int64_t>* out) {
  if (!list.is_array() || list.size() > most) return false;
  for (const nlohmann::json& value : list) {
    // Negative numbers and fractions have other types.
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return false;
    out->push_back(value.get<int64_t>());
  }
  return true;
}

// Bytes of a tensor; false if they do not fit an int64.
bool CountBytes(const std::vector<int64_t>& shape, int64_t element_bytes, int64_t* bytes) {
  // An extent of 0 must not hide an overflow before it.
  *bytes = std::find(shape.begin(), shape.end(), 0) != shape.end() ? 0 : element_bytes;
  if (*bytes == 0) return true;
  return std::all_of(shape.begin(), shape.end(),
                     [bytes](int64_t extent) { return !__builtin_mul_overflow(*bytes, extent, bytes); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  absl::StatusOr<MappedFile> mapped = MappedFile::Open(path);
  if (!mapped.ok()) return mapped.status();
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(*std::move(mapped)));
  if (absl::Status status = file->ReadHeader(); !status.ok()) return status;
  if (absl::Status status = file->Align(); !status.ok()) return status;
  return file;
}

absl::Status SafetensorsFile::Error(std::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(path(), ": ", std::string(what)));
}

absl::Status SafetensorsFile::ReadHeader() {
  const std::span<const std::byte> bytes = file_.bytes();
  const auto size = static_cast<int64_t>(bytes.size());
  if (size < kPrefixBytes) {
    return Error(absl::StrCat("has ", size, " bytes; expected at least ", kPrefixBytes, ", the header's length"));
  }
  uint64_t header_bytes = 0;
  for (int i = 0; i < kPrefixBytes; ++i) header_bytes |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  if (header_bytes > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return Error(absl::StrCat("header length is ", header_bytes, "; expected at most ", kMaxHeaderBytes));
  }
  const int64_t data_begin = kPrefixBytes + static_cast<int64_t>(header_bytes);
  if (data_begin > size) {
    return Error(absl::StrCat("header length is ", header_bytes, ", but only ", size - kPrefixBytes,
                              " bytes follow it; the file is truncated"));
  }
  absl::StatusOr<nlohmann::json> header = ParseJsonObject(
      path(), std::string_view(reinterpret_cast<const char*>(bytes.data()) + kPrefixBytes, header_bytes));
  if (!header.ok()) return header.status();
  for (const auto& [name, value] : header->items()) {
    if (name == "__metadata__") continue;  // strings for people
    absl::StatusOr<SafetensorsEntry> entry = ReadEntry(name, value, bytes.subspan(data_begin));
    if (!entry.ok()) return entry.status();
    tensors_.emplace(name, *std::move(entry));
  }
  return CheckPlaces(bytes.subspan(data_begin));
}

absl::StatusOr<SafetensorsEntry> SafetensorsFile::ReadEntry(const std::string& name, const nlohmann::json& value,
                                                            std::span<const std::byte> data) const {
  const std::string tensor = absl::StrCat("tensor ", Quoted(name), ": ");
  if (!value.is_object()) return Error(absl::StrCat(tensor, "is ", ValueText(value), "; expected a JSON object"));
  const auto field = [&value](const char* key) {
    const auto found = value.find(key);
    return found == value.end() ? nlohmann::json() : *found;
  };
  SafetensorsEntry entry;
  const nlohmann::json dtype = field("dtype");
  if (!dtype.is_string()) return Error(absl::StrCat(tensor, "dtype is ", ValueText(dtype), "; expected a string"));
  entry.dtype = dtype.get<std::string>();
  const nlohmann::json shape = field("shape");
  if (!ReadNumbers(shape, kMaxRank, &entry.shape)) {
    return Error(absl::StrCat(tensor, "shape is ", ValueText(shape), "; expected a list of at most ", kMaxRank,
                              " whole numbers of at least 0"));
  }
  std::vector<int64_t> offsets;
  const nlohmann::json data_offsets = field("data_offsets");
  if (!ReadNumbers(data_offsets, 2, &offsets) || offsets.size() != 2 || offsets[0] > offsets[1]) {
    return Error(absl::StrCat(tensor, "data_offsets is ", ValueText(data_offsets),
                              "; expected [begin, end] with 0 <= begin <= end"));
  }
  if (offsets[1] > static_cast<int64_t>(data.size())) {
    return Error(absl::StrCat(tensor, "data_offsets is ", ValueText(data_offsets), ", but the file has ", data.size(),
                              " bytes of data; it is truncated, or its header is wrong"));
  }
  entry.bytes = offsets[1] - offsets[0];
  entry.data = data.data() + offsets[0];
  if (const int64_t element_bytes = BytesOf(entry.dtype); element_bytes > 0) {
    int64_t needed = 0;
    const bool fits = CountBytes(entry.shape, element_bytes, &needed);
    if (!fits || needed != entry.bytes) {
      return Error(absl::StrCat(tensor, "has ", entry.bytes, " bytes; expected ",
                                fits ? absl::StrCat(needed) : "more than 2^63", " for ", entry.dtype, " of shape ",
                                ShapeText(entry.shape)));
    }
  }
  return entry;
}

absl::Status SafetensorsFile::CheckPlaces(std::span<const std::byte> data) const {
  struct Place {
    int64_t begin, end;
    std::string_view name;
  };
  std::vector<Place> places;
  places.reserve(tensors_.size());
  for (const auto& [name, entry] : tensors_) {
    const int64_t begin = entry.data - data.data();
    places.push_back({begin, begin + entry.bytes, name});
  }
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  int64_t end = 0;
  std::string_view before;
  for (const Place& place : places) {
    if (place.begin < end) {
      return Error(absl::StrCat("tensors ", Quoted(before), " and ", Quoted(place.name),
                                " overlap: the first ends at byte ", end, " of the data, the second begins at ",
                                place.begin));
    }
    if (place.begin > end) {
      return Error(absl::StrCat("tensor ", Quoted(place.name), " begins at byte ", place.begin,
                                " of the data; expected ", end, ", where the tensor before it ends"));
    }
    end = place.end;
    before = place.name;
  }
  if (end != static_cast<int64_t>(data.size())) {
    return Error(absl::StrCat("has ", data.size(), " bytes of data; expected ", end, ", where the last tensor ends"));
  }
  return absl::OkStatus();
}

absl::Status SafetensorsFile::Align() {
  for (auto& [name, entry] : tensors_) {
    const int64_t element_bytes = entry.dtype == "F32" ? 4 : entry.dtype == "F16" || entry.dtype == "BF16" ? 2 : 1;
    if (entry.bytes == 0 || reinterpret_cast<uintptr_t>(entry.data) % element_bytes == 0) continue;
    std::unique_ptr<std::byte[]> copy(new (std::nothrow) std::byte[entry.bytes]);
    if (copy == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path(), ": tensor ", Quoted(name), ": no memory for a copy of ", entry.bytes, " bytes"));
    }
    std::copy_n(entry.data, entry.bytes, copy.get());
    entry.data = copy.get();
    copies_.push_back(std::move(copy));
  }
  return absl::OkStatus();
}

}  // namespace elserve
