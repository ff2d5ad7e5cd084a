#include "server/text/word_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <string>

#include "server/text/utf8.h"

namespace elserve {
namespace {

// The classes are Unicode 16's, which the tokenizers library has; PCRE2 10.42 knows Unicode 14. The characters that
// came in between are named here, so that both see the same letters. A newer PCRE2 has them in its own classes too: no
// harm.
#define NEW_LETTERS                                                                                                    \
  "\\x{1C89}-\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}\\x{10D4A}-\\x{10D65}\\x{10D6F}-"     \
  "\\x{10D85}\\x{10EC2}-\\x{10EC4}\\x{1123F}-\\x{11240}\\x{11380}-\\x{11389}\\x{1138B}\\x{1138E}\\x{11390}-\\x{113B5}" \
  "\\x{113B7}\\x{113D1}\\x{113D3}\\x{11BC0}-\\x{11BE0}\\x{11F02}\\x{11F04}-\\x{11F10}\\x{11F12}-\\x{11F33}\\x{1342F}"  \
  "\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}" \
  "\\x{1DF25}-\\x{1DF2A}\\x{1E030}-\\x{1E06D}\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{1E5ED}\\x{1E5F0}\\x{2B739}\\x{2EBF0}" \
  "-"                                                                                                                  \
  "\\x{2EE5D}\\x{31350}-\\x{323AF}"
#define NEW_DECIMALS                                                                                              \
  "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11F50}-\\x{11F59}\\x{16130}-\\x{16139}\\x{" \
  "16D70}-"                                                                                                       \
  "\\x{16D79}\\x{1CCF0}-\\x{1CCF9}\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}"
#define NEW_MARKS                                                                                                      \
  "\\x{897}\\x{CF3}\\x{ECE}\\x{10D69}-\\x{10D6D}\\x{10EFC}-\\x{10EFF}\\x{11241}\\x{113B8}-\\x{113C0}\\x{113C2}\\x{"    \
  "113C5}"                                                                                                             \
  "\\x{113C7}-\\x{113CA}\\x{113CC}-\\x{113D0}\\x{113D2}\\x{113E1}-\\x{113E2}\\x{11F00}-\\x{11F01}\\x{11F03}\\x{11F34}" \
  "-"                                                                                                                  \
  "\\x{11F3A}\\x{11F3E}-\\x{11F42}\\x{11F5A}\\x{13440}\\x{13447}-\\x{13455}\\x{1611E}-\\x{1612F}\\x{1E08F}\\x{1E4EC}-" \
  "\\x{1E4EF}\\x{1E5EE}-\\x{1E5EF}"
#define LETTERS "\\p{L}" NEW_LETTERS
#define NUMBERS "\\p{N}\\x{1D2C0}-\\x{1D2D3}" NEW_DECIMALS
// Not \s: PCRE2's has U+180E, which is no white space since Unicode 6.3.
#define SPACES \
  "\\x{09}-\\x{0D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ where what nothing follows is possessive:
// the same matches, without a step back.
constexpr char kWordPattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?[" LETTERS "]++| ?[" NUMBERS
                                "]++| ?[^" SPACES LETTERS NUMBERS "]++|[" SPACES "]+(?![^" SPACES "])|[" SPACES "]++";

// \p{Nl} and the ranges at the end are alphabetic without being letters.
constexpr char kWordCharacterPattern[] =
    "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}"
    "\\x{1F170}-\\x{1F189}" NEW_LETTERS NEW_DECIMALS NEW_MARKS "]";

#undef SPACES
#undef NUMBERS
#undef LETTERS
#undef NEW_MARKS
#undef NEW_DECIMALS
#undef NEW_LETTERS

// Lives as long as the process; null if PCRE2 cannot.
const pcre2_code* Compile(const char* pattern) {
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* const code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                    PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, &error, &at, nullptr);
  // Where PCRE2 has no JIT for the processor, matching goes on without it.
  if (code != nullptr) pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return code;
}

const pcre2_code* WordPattern() {
  static const pcre2_code* const code = Compile(kWordPattern);
  return code;
}

const pcre2_code* WordCharacterPattern() {
  static const pcre2_code* const code = Compile(kWordCharacterPattern);
  return code;
}

}  // namespace

absl::Status CheckUnicodePatterns() {
  if (WordPattern() != nullptr && WordCharacterPattern() != nullptr) return absl::OkStatus();
  return absl::InternalError("PCRE2 cannot compile the tokenizer's patterns: it was built without Unicode");
}

struct WordSplitter::Match {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);  // null without memory: then pcre2_match fails
  Match() = default;
  ~Match() { pcre2_match_data_free(data); }
  Match(const Match&) = delete;
  Match& operator=(const Match&) = delete;
};

WordSplitter::WordSplitter() : match_(std::make_unique<Match>()) {}
WordSplitter::~WordSplitter() = default;

size_t WordSplitter::NextWord(std::string_view text, size_t offset) {
  // The text is known to be valid: a check of all of it in each call would make splitting quadratic.
  const int matches = pcre2_match(WordPattern(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), offset,
                                  PCRE2_NO_UTF_CHECK, match_->data, nullptr);
  // Every character begins some word, and no alternative goes back further than one character.
  return matches != 1 ? 0 : pcre2_get_ovector_pointer(match_->data)[1] - offset;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

size_t SpaceAfter(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Utf8Character character = ReadUtf8(text, begin);
    if (!IsWhiteSpace(character.code_point)) break;
    begin += character.length;
  }
  return begin;
}

size_t SpaceBefore(std::string_view text, size_t end, size_t limit) {
  while (end > limit) {
    const size_t begin = PreviousCharacter(text, end);
    if (!IsWhiteSpace(ReadUtf8(text, begin).code_point)) break;
    end = begin;
  }
  return end;
}

bool IsWordCharacter(char32_t code_point) {
  std::string text;
  AppendUtf8(code_point, text);
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create(1, nullptr),
                                                                            pcre2_match_data_free);
  return pcre2_match(WordCharacterPattern(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                     PCRE2_NO_UTF_CHECK, data.get(), nullptr) > 0;
}

}  // namespace elserve
