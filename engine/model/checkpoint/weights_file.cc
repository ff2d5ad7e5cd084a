#include "engine/model/checkpoint/weights_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

struct Dtype {
  std::string_view name;
  int64_t bytes;
};
constexpr std::array kDtypes = {Dtype{"F32", 4}, Dtype{"F16", 2}, Dtype{"BF16", 2}, Dtype{"F64", 8}, Dtype{"I64", 8},
                                Dtype{"U64", 8}, Dtype{"I32", 4}, Dtype{"U32", 4},  Dtype{"I16", 2}, Dtype{"U16", 2},
                                Dtype{"I8", 1},  Dtype{"U8", 1},  Dtype{"BOOL", 1}, Dtype{"C64", 8}, Dtype{"C128", 16}};

bool IsRead(std::string_view dtype) { return dtype == "F32" || dtype == "F16" || dtype == "BF16"; }

bool IsRowMajor(std::span<const int64_t> shape, std::span<const int64_t> strides) {
  int64_t expected = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    // The stride of a single row leads nowhere, and may be anything.
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

// Copies numbers of `kBytes` in row-major order of `shape`, of which no extent is 0.
template <size_t kBytes>
void Gather(const std::byte* from, std::span<const int64_t> shape, std::span<const int64_t> strides, std::byte* to) {
  std::array<int64_t, kMaxTensorRank> at = {};
  const size_t rank = shape.size();
  int64_t offset = 0;  // of the number at `at`
  while (true) {
    std::memcpy(to, from + offset * static_cast<int64_t>(kBytes), kBytes);
    to += kBytes;
    size_t d = rank;
    for (; d > 0; --d) {
      offset += strides[d - 1];
      if (++at[d - 1] < shape[d - 1]) break;
      offset -= shape[d - 1] * strides[d - 1];
      at[d - 1] = 0;
    }
    if (d == 0) return;
  }
}

}  // namespace

int64_t DtypeBytes(std::string_view dtype) {
  for (const Dtype& row : kDtypes) {
    if (row.name == dtype) return row.bytes;
  }
  return 0;
}

bool CountNumbers(std::span<const int64_t> shape, int64_t* numbers) {
  // An extent of 0 must not hide an overflow before it, nor be hidden by one.
  *numbers = std::find(shape.begin(), shape.end(), 0) != shape.end() ? 0 : 1;
  if (*numbers == 0) return true;
  return std::all_of(shape.begin(), shape.end(),
                     [numbers](int64_t extent) { return !__builtin_mul_overflow(*numbers, extent, numbers); });
}

absl::Status WeightsFile::Error(std::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat(path(), ": ", std::string(what)));
}

absl::Status WeightsFile::Add(const std::string& name, TensorEntry entry, std::span<const int64_t> strides) {
  const bool row_major = strides.empty() || entry.bytes == 0 || IsRowMajor(entry.shape, strides);
  const bool aligned = reinterpret_cast<uintptr_t>(entry.data) % std::max<int64_t>(1, DtypeBytes(entry.dtype)) == 0;
  if (IsRead(entry.dtype) && entry.bytes > 0 && !(row_major && aligned)) {
    absl::Status copied = Copy(name, row_major ? std::span<const int64_t>() : strides, &entry);
    if (!copied.ok()) return copied;
  }
  tensors_.emplace(name, std::move(entry));
  return absl::OkStatus();
}

absl::Status WeightsFile::Copy(const std::string& name, std::span<const int64_t> strides, TensorEntry* entry) {
  std::unique_ptr<std::byte[]>& copy =
      copies_[View(entry->data, entry->dtype, entry->shape, std::vector<int64_t>(strides.begin(), strides.end()))];
  if (copy == nullptr) {
    const auto limit = static_cast<int64_t>(bytes().size());
    if (entry->bytes > limit - copied_bytes_) {
      return Error(absl::StrCat("tensor ", Quoted(name), ": of shape ", ShapeText(entry->shape), " and strides ",
                                ShapeText(strides), " has to be copied to ", entry->bytes, " bytes, after ",
                                copied_bytes_, " of other tensors; expected at most the ", limit,
                                " bytes of the file together"));
    }
    copy.reset(new (std::nothrow) std::byte[entry->bytes]);
    if (copy == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path(), ": tensor ", Quoted(name), ": no memory for a copy of ", entry->bytes, " bytes"));
    }
    copied_bytes_ += entry->bytes;
    if (strides.empty()) {
      std::memcpy(copy.get(), entry->data, entry->bytes);
    } else if (DtypeBytes(entry->dtype) == 4) {
      Gather<4>(entry->data, entry->shape, strides, copy.get());
    } else {
      Gather<2>(entry->data, entry->shape, strides, copy.get());
    }
  }
  entry->data = copy.get();
  return absl::OkStatus();
}

}  // namespace elserve
