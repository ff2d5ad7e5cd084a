// Parts of a long text that fit into a number of tokens, cut where sentences end.
#ifndef ELSERVE_SERVER_TEXT_WINDOWS_H_
#define ELSERVE_SERVER_TEXT_WINDOWS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/token_model.h"
#include "server/text/tokenizer.h"

namespace elserve {

// What a text can be cut at, in its bytes.
struct TextCuts {
  // Ascending; the last one is the text's end.
  std::vector<uint32_t> sentence_ends;
  std::vector<uint32_t> word_ends;
  // Of its tokens, in their order. White space that a token begins with does not count, so that none reaches across the
  // end of a sentence. Where tokens overlap or jump back, one counts from the first byte of it and of all that follow,
  // up to the last byte of it and of all before. One without bytes counts with the byte before it.
  std::vector<TextSpan> tokens = {};
};

// A text is tokenized once, as a whole; a window's tokens are those of the text that it touches. Alone, or with a
// prompt around it, it may have a few more or less: who encodes it and finds it too long asks again with less room.
class TextWindows {
 public:
  // Cuts and tokens of a text, which has to outlive this. INVALID_ARGUMENT if it is not valid UTF-8.
  static absl::StatusOr<TextWindows> Create(const Tokenizer& tokenizer, std::string_view text);

  TextWindows(std::string_view text, TextCuts cuts);

  // The longest part from `begin` on of at most `room` tokens that ends where a sentence does; where the first sentence
  // is too long, where a word does; where that is too long, at any character. Never empty before the text's end: one
  // character may have more than `room` tokens.
  TextSpan From(size_t begin, size_t room) const;

  // The window that follows one which does not end the text: it begins with the sentences of that one's end that are
  // at most `overlap` tokens and leave room for the next sentence; where the window ends inside a sentence that is too
  // long, with words of it. It begins and ends behind it, and leaves nothing out between. `overlap` should be at most
  // half of `room`: the more, the more windows.
  TextSpan Next(TextSpan window, size_t room, size_t overlap) const;

  // The part of at most `room` tokens that holds `inside`, whole characters, with whole sentences around it: as many as
  // fit, evenly to both sides; where its own sentence is too long, words. nullopt: `inside` alone has more.
  std::optional<TextSpan> Around(TextSpan inside, size_t room) const;

  // How many tokens a part of the text touches.
  size_t TokensOf(TextSpan part) const;

 private:
  // The last byte that a part from `begin` of `room` tokens can end at, and the first that a part up to `end` can begin
  // at.
  size_t FurthestEnd(size_t begin, size_t room) const;
  size_t EarliestBegin(size_t end, size_t room) const;
  std::optional<size_t> NextBegin(const std::vector<uint32_t>& ends, size_t end, size_t room, size_t earliest) const;
  std::optional<TextSpan> Grow(TextSpan inside, size_t room, const std::vector<uint32_t>& ends) const;

  std::string_view text_;
  TextCuts cuts_;
  // Of the tokens, both ascending, so that they can be counted by searching.
  std::vector<uint32_t> begins_, ends_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_WINDOWS_H_
