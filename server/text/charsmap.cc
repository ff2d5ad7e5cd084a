#include "server/text/charsmap.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "server/text/utf8.h"

namespace elserve {
namespace {

constexpr size_t kBlockUnits = 256;  // an array is whole blocks: any label leads from a block's node into the block

uint32_t LittleEndian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[at + i])) << 8 * i;
  return value;
}

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(std::string_view bytes) {
  if (bytes.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the character map has %d bytes: at most %d", bytes.size(), kMaxBytes));
  }
  if (bytes.size() < 4) return absl::InvalidArgumentError("the character map is cut short");
  const size_t array_bytes = LittleEndian(bytes, 0);
  if (array_bytes == 0 || array_bytes % (4 * kBlockUnits) != 0 || array_bytes > bytes.size() - 4) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the character map says that its array has %d bytes: it must be a multiple of %d and within the %d bytes after",
        array_bytes, 4 * kBlockUnits, bytes.size() - 4));
  }
  Charsmap map;
  map.units_.reserve(array_bytes / 4);
  for (size_t at = 4; at < 4 + array_bytes; at += 4) map.units_.push_back(LittleEndian(bytes, at));
  map.texts_ = bytes.substr(4 + array_bytes);
  if (const std::optional<size_t> bad = FirstInvalidUtf8(map.texts_)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the character map's texts are not valid UTF-8: no character begins at byte %d of them", *bad));
  }
  if (map.texts_.empty() || map.texts_.back() != '\0') {
    return absl::InvalidArgumentError("the character map's texts do not end with 0");
  }
  if (absl::Status status = map.CheckArray(); !status.ok()) return status;
  return map;
}

// Goes through all nodes that a text can reach.
absl::Status Charsmap::CheckArray() const {
  std::vector<bool> seen(units_.size());  // by the base of a node's children
  std::vector<uint32_t> open = {Offset(units_[0])};
  while (!open.empty()) {
    const uint32_t base = open.back();
    open.pop_back();
    if (base >= units_.size()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the character map's array points to unit %d of %d", base, units_.size()));
    }
    if (seen[base]) continue;
    seen[base] = true;
    for (uint32_t label = 1; label < kBlockUnits; ++label) {
      const uint32_t node = base ^ label;
      const uint32_t unit = units_[node];
      if (Label(unit) != label) continue;
      const uint32_t children = node ^ Offset(unit);
      if (HasKey(unit)) {
        if (absl::Status status = CheckKey(children); !status.ok()) return status;
      }
      open.push_back(children);
    }
  }
  return absl::OkStatus();
}

absl::Status Charsmap::CheckKey(uint32_t base) const {
  if (base < units_.size()) {
    const uint32_t text = Value(units_[base]);
    if (text < texts_.size() && IsCharacterBoundary(texts_, text)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrFormat(
        "the character map's array points to byte %d of the texts, which have %d", text, texts_.size()));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("the character map's array points to unit %d of %d", base, units_.size()));
}

// The node that `byte` leads to from the one whose children are at `base`, which becomes the base of its children.
std::optional<uint32_t> Charsmap::Step(char byte, uint32_t& base) const {
  const uint32_t label = static_cast<uint8_t>(byte);
  const uint32_t node = base ^ label;
  const uint32_t unit = units_[node];
  if (label == 0 || Label(unit) != label) return std::nullopt;
  base = node ^ Offset(unit);
  return unit;
}

size_t Charsmap::Reach(std::string_view text) const {
  const size_t size = std::min(text.size(), kMaxKeyBytes);
  uint32_t base = Offset(units_[0]);
  size_t at = 0;
  while (at < size && Step(text[at], base)) ++at;
  return at;
}

template <bool kLongest>
std::optional<Charsmap::Match> Charsmap::Find(std::string_view text) const {
  std::optional<Match> found;
  uint32_t base = Offset(units_[0]);
  const size_t size = std::min(text.size(), kMaxKeyBytes);
  for (size_t at = 0; at < size;) {
    const std::optional<uint32_t> unit = Step(text[at], base);
    if (!unit) break;
    ++at;
    if (!HasKey(*unit)) continue;
    // Parse has seen that a 0 comes.
    found = Match{at, texts_.data() + Value(units_[base])};
    if (!kLongest) break;
  }
  return found;
}

std::optional<Charsmap::Match> Charsmap::Shortest(std::string_view text) const { return Find<false>(text); }

std::optional<Charsmap::Match> Charsmap::Longest(std::string_view text) const { return Find<true>(text); }

}  // namespace elserve
