#include "server/text/span_trim.h"

#include <algorithm>
#include <optional>

#include "server/text/text_encoder.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

constexpr uint32_t kSpaceSpelling = 0x120;  // "Ġ": the space of byte_level.h's alphabet

bool IsBlank(uint32_t c) { return c == kSpaceSpelling || IsWhiteSpace(c); }

struct Blanks {  // characters at the ends of a token's spelling
  size_t leading = 0;
  size_t trailing = 0;
};

Blanks BlanksOf(std::string_view spelling) {
  Blanks blanks;
  bool begun = false;
  for (size_t at = 0; at < spelling.size();) {
    const Utf8Character character = ReadUtf8(spelling, at);
    at += character.length;
    if (IsBlank(character.code_point)) {
      ++blanks.trailing;
      if (!begun) ++blanks.leading;
    } else {
      begun = true;
      blanks.trailing = 0;
    }
  }
  return blanks;
}

// `offset` moved by so many characters of the text, not beyond its ends.
uint32_t Forward(std::string_view text, uint32_t offset, size_t characters) {
  for (; characters > 0 && offset < text.size(); --characters) {
    offset += static_cast<uint32_t>(ReadUtf8(text, offset).length);
  }
  return offset;
}

// The same towards the beginning; an offset with fewer characters before it stays.
uint32_t Back(std::string_view text, uint32_t offset, size_t characters) {
  uint32_t moved = offset;
  for (; characters > 0; --characters) {
    if (moved == 0) return offset;
    do --moved;
    while (moved > 0 && !IsCharacterBoundary(text, moved));
  }
  return moved;
}

}  // namespace

void TrimSpans(std::string_view text, const std::vector<SpanTrim>& steps, const TextPipeline& pipeline,
               TokenList& tokens) {
  for (const SpanTrim& step : steps) {
    for (size_t i = 0; i < tokens.ids.size(); ++i) {
      TextSpan& span = tokens.spans[i];
      // An added token is called by the text that it was found in, with the white space that it took.
      const std::string_view spelling = pipeline.added.DecodedText(tokens.ids[i])
                                            ? text.substr(span.begin, span.end - span.begin)
                                            : pipeline.model->vocabulary().Spelling(tokens.ids[i]).value_or("");
      Blanks blanks = BlanksOf(spelling);
      if (blanks.leading > 0) {
        const bool first = i + step.tokens_before == 0 || span.begin == 0;
        // More than one is not what was put before the text.
        if (first && step.add_prefix_space && blanks.leading == 1) blanks.leading = 0;
        span.begin = std::min(Forward(text, span.begin, blanks.leading), span.end);
      }
      if (blanks.trailing > 0) span.end = std::max(Back(text, span.end, blanks.trailing), span.begin);
    }
  }
}

}  // namespace elserve
