// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#ifndef ELSERVE_SERVER_TEXT_UTF8_H_
#define ELSERVE_SERVER_TEXT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace elserve {

// The offset in bytes of the first byte that begins no complete, well-formed character; nullopt: the text is valid.
std::optional<size_t> FirstInvalidUtf8(std::string_view text);

// INVALID_ARGUMENT that names `field` and the offset of the first bad byte, or OK.
absl::Status CheckUtf8(std::string_view text, std::string_view field);

// True if a character of the valid text begins or the text ends at byte `offset`; false beyond the end.
bool IsCharacterBoundary(std::string_view text, size_t offset);

// Where the character of the valid text begins that ends at byte `end` > 0.
size_t PreviousCharacter(std::string_view text, size_t end);

// One character, or one run of bytes that is none.
struct Utf8Character {
  size_t length;        // in bytes, at least 1
  uint32_t code_point;  // U+FFFD if it is not valid
  bool valid;
  bool incomplete;  // not valid only because the text ends: more bytes could make it a character
};

// The character at byte `offset` < text.size(). What is not valid is cut as Unicode recommends ("maximal subpart"), so
// that one U+FFFD for each run is what Python's errors="replace" and Rust's from_utf8_lossy give.
Utf8Character ReadUtf8(std::string_view text, size_t offset);

void AppendUtf8(uint32_t code_point, std::string& out);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_UTF8_H_
