#include "server/text/detokenizer.h"

#include <optional>
#include <string_view>

namespace elserve {

std::string Detokenizer::Push(std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) {
    std::optional<std::string_view> token = parts_.added.DecodedText(id);
    if (!token) token = parts_.vocabulary.Spelling(id);
    if (!token) continue;
    const bool special = parts_.added.is_special(*token);
    if (!special || !skip_special_tokens_) stream_.Add(*token, id, special, text);
  }
  return text;
}

std::string Detokenizer::Finish() {
  std::string text;
  stream_.End(text);
  return text;
}

}  // namespace elserve
