// What the tokenizer asks of Unicode: the words of a text, white space, and word characters, by PCRE2.
#ifndef ELSERVE_SERVER_TEXT_WORD_SPLITTER_H_
#define ELSERVE_SERVER_TEXT_WORD_SPLITTER_H_

#include <cstddef>
#include <memory>
#include <string_view>

#include "absl/status/status.h"

namespace elserve {

// Not OK if PCRE2 cannot compile the patterns (it was built without Unicode). To be asked before anything else here.
absl::Status CheckUnicodePatterns();

// Cuts a text by GPT-2's pattern, as the tokenizers library's ByteLevel pre-tokenizer does. One for each call that
// splits: it holds PCRE2's match block; the compiled patterns are shared by the process. Texts must be valid UTF-8.
class WordSplitter {
 public:
  WordSplitter();
  ~WordSplitter();
  WordSplitter(const WordSplitter&) = delete;
  WordSplitter& operator=(const WordSplitter&) = delete;

  // The length in bytes of the word that begins at byte `offset` < text.size(); words leave no gaps. 0: PCRE2
  // failed (no memory). Takes time linear in that length.
  size_t NextWord(std::string_view text, size_t offset);

 private:
  struct Match;
  std::unique_ptr<Match> match_;
};

// Unicode's White_Space.
bool IsWhiteSpace(char32_t code_point);

// Where the white space that begins at byte `begin` ends, and where that which ends at `end` begins, at least at
// `limit`; there may be none. Bytes on character boundaries of a valid text.
size_t SpaceAfter(std::string_view text, size_t begin);
size_t SpaceBefore(std::string_view text, size_t end, size_t limit = 0);

// Regular expressions' \w: alphabetic, a mark, a decimal number, connector punctuation or a joiner.
bool IsWordCharacter(char32_t code_point);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_WORD_SPLITTER_H_
