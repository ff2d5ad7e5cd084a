#include "server/text/detokenizer.h"

#include "server/text/utf8.h"

namespace elserve {

std::string IncrementalDetokenizer::Push(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    if (skip_special_tokens_ && tokenizer_->is_special(id)) continue;
    held_ += tokenizer_->TokenBytes(id);
  }
  std::string text;
  size_t at = 0;
  while (at < held_.size()) {
    const Utf8Character character = ReadUtf8(held_, at);
    if (character.incomplete) break;
    AppendUtf8(character.code_point, text);
    at += character.length;
  }
  held_.erase(0, at);
  return text;
}

std::string IncrementalDetokenizer::Finish() {
  std::string text;
  if (!held_.empty()) AppendUtf8(0xFFFD, text);
  held_.clear();
  return text;
}

}  // namespace elserve
