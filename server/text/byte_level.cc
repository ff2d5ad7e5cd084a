#include "server/text/byte_level.h"

#include "server/text/utf8.h"

namespace elserve {
namespace {

constexpr int kAlphabetEnd = 0x144;  // one past the last character that stands for a byte

bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::string, 256> characters;       // by byte
  std::array<int16_t, kAlphabetEnd> bytes = {};  // by code point; -1: stands for no byte

  Alphabet() {
    bytes.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const int code_point = StandsForItself(byte) ? byte : next++;
      AppendUtf8(code_point, characters[byte]);
      bytes[code_point] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet* const alphabet = new Alphabet();
  return *alphabet;
}

}  // namespace

const std::array<std::string, 256>& ByteCharacters() { return TheAlphabet().characters; }

std::string SpellBytes(std::string_view bytes) {
  std::string spelled;
  for (const char byte : bytes) spelled += ByteCharacters()[static_cast<uint8_t>(byte)];
  return spelled;
}

void AppendTokenBytes(std::string_view token, std::string& bytes) {
  const Alphabet& alphabet = TheAlphabet();
  const size_t begin = bytes.size();
  for (size_t at = 0; at < token.size();) {
    const Utf8Character character = ReadUtf8(token, at);
    if (character.code_point >= kAlphabetEnd || alphabet.bytes[character.code_point] < 0) {
      bytes.replace(begin, std::string::npos, token);
      return;
    }
    bytes.push_back(static_cast<char>(alphabet.bytes[character.code_point]));
    at += character.length;
  }
}

}  // namespace elserve
