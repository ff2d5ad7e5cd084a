#include "engine/model/checkpoint/safetensors.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/bounded_json.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

constexpr int64_t kPrefixBytes = 8;               // the header's length
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // as the safetensors library has it

using Entries = std::map<std::string, TensorEntry>;

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

// The shape's numbers have the bytes of the entry. Types of unknown size stay unchecked: no tensor of them is ever
// read.
absl::Status CheckBytes(const WeightsFile& file, const std::string& tensor, const TensorEntry& entry) {
  const int64_t element_bytes = DtypeBytes(entry.dtype);
  if (element_bytes == 0) return absl::OkStatus();
  int64_t needed = 0;
  const bool fits = CountNumbers(entry.shape, &needed) && !__builtin_mul_overflow(needed, element_bytes, &needed);
  if (fits && needed == entry.bytes) return absl::OkStatus();
  return file.Error(absl::StrCat(tensor, "has ", entry.bytes, " bytes; expected ",
                                 fits ? absl::StrCat(needed) : "more than 2^63", " for ", entry.dtype, " of shape ",
                                 ShapeText(entry.shape)));
}

absl::StatusOr<TensorEntry> ReadEntry(const WeightsFile& file, const std::string& name, const nlohmann::json& value,
                                      std::span<const std::byte> data) {
  const std::string tensor = absl::StrCat("tensor ", Quoted(name), ": ");
  if (!value.is_object()) return file.Error(absl::StrCat(tensor, "is ", ValueText(value), "; expected a JSON object"));
  const auto field = [&value](const char* key) {
    const auto found = value.find(key);
    return found == value.end() ? nlohmann::json() : *found;
  };
  TensorEntry entry;
  const nlohmann::json dtype = field("dtype");
  if (!dtype.is_string()) {
    return file.Error(absl::StrCat(tensor, "dtype is ", ValueText(dtype), "; expected a string"));
  }
  entry.dtype = dtype.get<std::string>();
  const nlohmann::json shape = field("shape");
  if (!ReadNumbers(shape, kMaxTensorRank, &entry.shape)) {
    return file.Error(absl::StrCat(tensor, "shape is ", ValueText(shape), "; expected a list of at most ",
                                   kMaxTensorRank, " whole numbers of at least 0"));
  }
  std::vector<int64_t> offsets;
  const nlohmann::json data_offsets = field("data_offsets");
  if (!ReadNumbers(data_offsets, 2, &offsets) || offsets.size() != 2 || offsets[0] > offsets[1]) {
    return file.Error(absl::StrCat(tensor, "data_offsets is ", ValueText(data_offsets),
                                   "; expected [begin, end] with 0 <= begin <= end"));
  }
  if (offsets[1] > static_cast<int64_t>(data.size())) {
    return file.Error(absl::StrCat(tensor, "data_offsets is ", ValueText(data_offsets), ", but the file has ",
                                   data.size(), " bytes of data; it is truncated, or its header is wrong"));
  }
  entry.bytes = offsets[1] - offsets[0];
  entry.data = data.data() + offsets[0];
  if (absl::Status status = CheckBytes(file, tensor, entry); !status.ok()) return status;
  return entry;
}

// No gap and no overlap.
absl::Status CheckPlaces(const WeightsFile& file, const Entries& entries, std::span<const std::byte> data) {
  struct Place {
    int64_t begin, end;
    std::string_view name;
  };
  std::vector<Place> places;
  places.reserve(entries.size());
  for (const auto& [name, entry] : entries) {
    const int64_t begin = entry.data - data.data();
    places.push_back({begin, begin + entry.bytes, name});
  }
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  int64_t end = 0;
  std::string_view before;
  for (const Place& place : places) {
    if (place.begin < end) {
      return file.Error(absl::StrCat("tensors ", Quoted(before), " and ", Quoted(place.name),
                                     " overlap: the first ends at byte ", end, " of the data, the second begins at ",
                                     place.begin));
    }
    if (place.begin > end) {
      return file.Error(absl::StrCat("tensor ", Quoted(place.name), " begins at byte ", place.begin,
                                     " of the data; expected ", end, ", where the tensor before it ends"));
    }
    end = place.end;
    before = place.name;
  }
  if (end != static_cast<int64_t>(data.size())) {
    return file.Error(
        absl::StrCat("has ", data.size(), " bytes of data; expected ", end, ", where the last tensor ends"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSafetensors(WeightsFile* file) {
  const std::span<const std::byte> bytes = file->bytes();
  const auto size = static_cast<int64_t>(bytes.size());
  if (size < kPrefixBytes) {
    return file->Error(absl::StrCat("has ", size, " bytes; expected at least ", kPrefixBytes, ", the header's length"));
  }
  uint64_t header_bytes = 0;
  for (int i = 0; i < kPrefixBytes; ++i) header_bytes |= std::to_integer<uint64_t>(bytes[i]) << (8 * i);
  if (header_bytes > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return file->Error(absl::StrCat("header length is ", header_bytes, "; expected at most ", kMaxHeaderBytes));
  }
  const int64_t data_begin = kPrefixBytes + static_cast<int64_t>(header_bytes);
  if (data_begin > size) {
    return file->Error(absl::StrCat("header length is ", header_bytes, ", but only ", size - kPrefixBytes,
                                    " bytes follow it; the file is truncated"));
  }
  absl::StatusOr<nlohmann::json> header = ParseJsonObject(
      file->path(), std::string_view(reinterpret_cast<const char*>(bytes.data()) + kPrefixBytes, header_bytes));
  if (!header.ok()) return header.status();
  const std::span<const std::byte> data = bytes.subspan(data_begin);
  Entries entries;
  for (const auto& [name, value] : header->items()) {
    if (name == "__metadata__") continue;  // strings for people
    absl::StatusOr<TensorEntry> entry = ReadEntry(*file, name, value, data);
    if (!entry.ok()) return entry.status();
    entries.emplace(name, *std::move(entry));
  }
  if (absl::Status status = CheckPlaces(*file, entries, data); !status.ok()) return status;
  for (auto& [name, entry] : entries) {
    if (absl::Status status = file->Add(name, std::move(entry)); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace elserve
