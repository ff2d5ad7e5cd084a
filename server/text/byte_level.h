// The alphabet of byte-level BPE: each byte has a visible character that stands for it in the vocabulary's files
// (transformers' bytes_to_unicode). 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF stand for themselves; the other 68 are U+0100
// and up.
#ifndef ELSERVE_SERVER_TEXT_BYTE_LEVEL_H_
#define ELSERVE_SERVER_TEXT_BYTE_LEVEL_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace elserve {

// The character of each byte, in UTF-8.
const std::array<std::string, 256>& ByteCharacters();

// The bytes in the vocabulary's spelling: " a" -> "Ġa".
std::string SpellBytes(std::string_view bytes);

// Appends the bytes that a token of the vocabulary stands for. A token with a character outside the alphabet (an added
// one, say) stands for its own UTF-8, as in the tokenizers library's ByteLevel decoder.
void AppendTokenBytes(std::string_view token, std::string& bytes);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_BYTE_LEVEL_H_
