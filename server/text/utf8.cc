#include "server/text/utf8.h"

#include <cstring>

#include "absl/strings/str_format.h"

namespace elserve {
namespace {

constexpr uint32_t kReplacement = 0xFFFD;

// What may follow a lead byte: the number of bytes after it, and the range of the first of those (RFC 3629, section 4).
struct Lead {
  int following;  // 0: no lead byte of a longer character
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  uint8_t bits = 0;  // of the lead byte, that belong to the code point
};

Lead LeadOf(uint8_t byte) {
  if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF, static_cast<uint8_t>(byte & 0x1F)};
  if (byte >= 0xE0 && byte <= 0xEF) {
    const uint8_t low = byte == 0xE0 ? 0xA0 : 0x80;
    const uint8_t high = byte == 0xED ? 0x9F : 0xBF;
    return {2, low, high, static_cast<uint8_t>(byte & 0x0F)};
  }
  if (byte >= 0xF0 && byte <= 0xF4) {
    const uint8_t low = byte == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = byte == 0xF4 ? 0x8F : 0xBF;
    return {3, low, high, static_cast<uint8_t>(byte & 0x07)};
  }
  return {0};
}

}  // namespace

size_t PreviousCharacter(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && !IsCharacterBoundary(text, begin)) --begin;
  return begin;
}

Utf8Character ReadUtf8(std::string_view text, size_t offset) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(offset) < 0x80) return {1, byte(offset), true, false};
  const Lead lead = LeadOf(byte(offset));
  if (lead.following == 0) return {1, kReplacement, false, false};
  uint32_t code_point = lead.bits;
  for (int i = 1; i <= lead.following; ++i) {
    const size_t at = offset + i;
    if (at >= text.size()) return {static_cast<size_t>(i), kReplacement, false, true};
    const uint8_t low = i == 1 ? lead.low : 0x80;
    const uint8_t high = i == 1 ? lead.high : 0xBF;
    if (byte(at) < low || byte(at) > high) return {static_cast<size_t>(i), kReplacement, false, false};
    code_point = code_point << 6 | (byte(at) & 0x3F);
  }
  return {static_cast<size_t>(lead.following) + 1, code_point, true, false};
}

std::optional<size_t> FirstInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    uint64_t eight;
    if (at + sizeof(eight) <= text.size()) {
      std::memcpy(&eight, text.data() + at, sizeof(eight));
      if ((eight & 0x8080808080808080u) == 0) {
        at += sizeof(eight);
        continue;
      }
    }
    const Utf8Character character = ReadUtf8(text, at);
    if (!character.valid) return at;
    at += character.length;
  }
  return std::nullopt;
}

absl::Status CheckUtf8(std::string_view text, std::string_view field) {
  const std::optional<size_t> bad = FirstInvalidUtf8(text);
  if (!bad) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s is not valid UTF-8: no character begins at byte offset %d (0x%02X)", field, *bad,
                      static_cast<uint8_t>(text[*bad])));
}

bool IsCharacterBoundary(std::string_view text, size_t offset) {
  if (offset >= text.size()) return offset == text.size();
  return (static_cast<uint8_t>(text[offset]) & 0xC0) != 0x80;
}

void AppendUtf8(uint32_t code_point, std::string& out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace elserve
