#include "server/parameters/shown.h"

#include <nlohmann/json.hpp>

namespace elserve {
namespace {

constexpr size_t kMaxShownBytes = 80;

}  // namespace

std::string Shown(std::string text) {
  if (text.size() <= kMaxShownBytes) return text;
  size_t end = kMaxShownBytes;
  // Not in front of a byte that continues a character of UTF-8.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string Shown(const nlohmann::json& value) {
  return Shown(value.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace));
}

}  // namespace elserve
