// What the tokenizers library's tables say of a character, from ICU's. The library's tables are of other versions of
// Unicode: its normalization forms know Unicode 9, its lower case and its grapheme clusters Unicode 17; ICU 72 knows
// Unicode 15. What came in between is left out or added here, so that both say the same of every character.
#ifndef ELSERVE_SERVER_TEXT_UNICODE_H_
#define ELSERVE_SERVER_TEXT_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace elserve {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// A character of the text to be, and what becomes of those of the text as it is. With change 0 it replaces the next
// one; with change -n it replaces the next one, and the n after that go; with a change above 0 it is new.
struct CharacterChange {
  char32_t character;
  int32_t change;
  friend bool operator==(const CharacterChange&, const CharacterChange&) = default;
};

// The whole valid text in a normal form, as the characters and changes that unicode_normalization_alignments gives.
std::vector<CharacterChange> Normalized(std::string_view text, NormalForm form);

// True for letters (and all of ASCII that can be seen) which NFC and NFKC keep, and which are a grapheme cluster and a
// part of any normal form of their own unless marks follow. There are others.
bool IsSeparable(char32_t character);

// A mark of any kind: what StripAccents takes away.
bool IsMark(char32_t character);

// The lower case of one character, whatever stands around it: one or two characters.
void AppendLowercase(char32_t character, std::vector<char32_t>& out);

// The end of the extended grapheme cluster that begins at byte `begin` < text.size() of the valid text.
size_t GraphemeEnd(std::string_view text, size_t begin);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_UNICODE_H_
