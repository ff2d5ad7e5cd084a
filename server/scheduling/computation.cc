#include "server/scheduling/computation.h"

#include <utility>

#include "absl/hash/hash.h"

namespace elserve {

Computation::Computation(std::vector<int32_t> source, DecodingSpec decoding, std::string principal)
    : source_(std::move(source)),
      decoding_(std::move(decoding)),
      principal_(std::move(principal)),
      source_hash_(absl::HashOf(source_)),
      hash_(absl::HashOf(source_hash_, HashOf(decoding_), principal_)) {}

bool Computation::operator==(const Computation& other) const {
  return source_ == other.source_ && decoding_ == other.decoding_ && principal_ == other.principal_;
}

size_t Computation::bytes() const {
  return sizeof(*this) + source_.capacity() * sizeof(int32_t) + principal_.capacity() + HeapBytes(decoding_);
}

}  // namespace elserve
