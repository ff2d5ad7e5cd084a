#include "engine/model/checkpoint/quoted.h"

#include <cstddef>

namespace elserve {

std::string Printable(std::string_view text) {
  constexpr size_t kMostBytes = 200;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, kMostBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  if (text.size() > kMostBytes) out += "...";
  return out;
}

std::string Quoted(std::string_view text) { return '"' + Printable(text) + '"'; }

std::string ShapeText(std::span<const int64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + "]";
}

}  // namespace elserve
