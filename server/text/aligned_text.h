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
#include "server/text/unicode.h"

namespace elserve {

class AlignedText {
 public:
  // Each byte of the valid UTF-8 comes from the whole of its character.
  explicit AlignedText(std::string_view text);

  const std::string& text() const { return text_; }

  // What each byte of text() comes from, in bytes of the original.
  const std::vector<TextSpan>& alignment() const { return alignment_; }

  // What a part of text() comes from, in bytes of the original. The part must be within text() and not empty.
  TextSpan Original(TextSpan part) const { return {alignment_[part.begin].begin, alignment_[part.end - 1].end}; }

  // NormalizedString::transform: the whole text becomes the characters of `changes`, after the first `removed`
  // characters of the old text have gone. New characters come from what the one before them in the old text does.
  // Changes that reach beyond the old text's end come from its last character.
  void Transform(const std::vector<CharacterChange>& changes, size_t removed = 0);

  // NormalizedString::prepend: `text` comes from what the first character does. Nothing happens to an empty text.
  void Prepend(std::string_view text);

  // One match of NormalizedString::replace: all of these parts, in order and without overlap, become `content`, which
  // comes from what the last byte of the part does.
  void Replace(const std::vector<TextSpan>& parts, std::string_view content);

  // Takes off both ends: only text()[begin, end) stays.
  void Keep(size_t begin, size_t end);

  // The whole text becomes `text`, each byte of which comes from what the part of the old text at its place in `parts`
  // does. A part that is empty comes from nothing, at its place.
  void Become(std::string text, const std::vector<TextSpan>& parts);

 private:
  std::string text_;
  std::vector<TextSpan> alignment_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_ALIGNED_TEXT_H_
