// What a Replace normalizer looks for. The tokenizers library takes any pattern of Oniguruma; what real tokenizers have
// is a string, or a few characters that may come more than once (" {2,}", "\s{2,}|[\n\r\t]"), and that is what is
// taken here: other engines read other patterns differently.
#ifndef ELSERVE_SERVER_TEXT_REPLACE_PATTERN_H_
#define ELSERVE_SERVER_TEXT_REPLACE_PATTERN_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace elserve {

class ReplacePattern {
 public:
  static constexpr size_t kMaxBytes = 256;

  // Exactly this text, which must not be empty.
  static absl::StatusOr<ReplacePattern> Literal(std::string_view text);

  // Alternatives "a|b", each plain characters, or one character or class ("x", "\n", "\s", "[ab\t]") with +, {n,} or
  // nothing behind. INVALID_ARGUMENT for any other.
  static absl::StatusOr<ReplacePattern> Regex(std::string_view pattern);

  // The end of the match that begins at byte `begin` of the valid text; begin: none does.
  size_t MatchEnd(std::string_view text, size_t begin) const;

  // The first byte at or after `from` where a match may begin; text.size(): none does.
  size_t NextCandidate(std::string_view text, size_t from) const;

  // True if some match has this character in it.
  bool Mentions(char32_t character) const;

 private:
  struct Alternative {
    std::u32string characters;  // a literal, or a class
    bool is_class = false;
    bool white_space = false;  // the class has all of Unicode's
    size_t least = 1;          // times that a character of the class must come
    bool more = false;         // and may come

    bool Has(char32_t character) const;
    size_t MatchEnd(std::string_view text, size_t begin) const;
  };
  class Parser;

  void SetFirst();

  std::vector<Alternative> alternatives_;  // the first that matches counts
  std::vector<bool> first_;                // by byte: a match may begin with it
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_REPLACE_PATTERN_H_
