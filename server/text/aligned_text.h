// A text that was edited, and for each of its bytes the part of the original that it comes from: the tokenizers
// library's NormalizedString, for those who ask where in their text a token stands.
#ifndef ELSERVE_SERVER_TEXT_ALIGNED_TEXT_H_
#define ELSERVE_SERVER_TEXT_ALIGNED_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/token_model.h"

namespace elserve {

// A character of the text to be, and what becomes of those of the text as it is. With change 0 it replaces the next
// one; with change -n it replaces the next one, and the n after that go; with a change above 0 it is new.
struct CharacterChange {
  char32_t character;
  int32_t change;
};

class AlignedText {
 public:
  // Each byte of the valid UTF-8 comes from the whole of its character.
  explicit AlignedText(std::string_view text);

  const std::string& text() const { return text_; }

  // What each byte of text() comes from, in bytes of the original.
  const std::vector<TextSpan>& alignment() const { return alignment_; }

  // What a part of text() comes from; a span that is empty or out of range gives {span.begin, span.begin} of nothing.
  TextSpan Original(TextSpan span) const;

  // NormalizedString::transform: the whole text becomes the characters of `changes`, after the first `removed`
  // characters of the old text have gone. New characters come from what the one before them in the old text does.
  void Transform(const std::vector<CharacterChange>& changes, size_t removed = 0);

  // NormalizedString::prepend: `text` comes from what the first character does. Nothing happens to an empty text.
  void Prepend(std::string_view text);

  // One match of NormalizedString::replace: all of these parts, in order and without overlap, become `content`, which
  // comes from what the last byte of the part does.
  void Replace(const std::vector<TextSpan>& parts, std::string_view content);

  // Takes white space (or any part) off both ends: only text()[begin, end) stays.
  void Keep(size_t begin, size_t end);

 private:
  std::string text_;
  std::vector<TextSpan> alignment_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_ALIGNED_TEXT_H_
