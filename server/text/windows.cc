#include "server/text/windows.h"

#include <algorithm>
#include <utility>

#include "server/text/sentences.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

TextSpan ToSpan(size_t begin, size_t end) { return {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)}; }

// How many of an ascending list are at most, and below, `at`.
size_t CountTo(const std::vector<uint32_t>& list, size_t at) {
  return static_cast<size_t>(std::upper_bound(list.begin(), list.end(), at) - list.begin());
}
size_t CountBelow(const std::vector<uint32_t>& list, size_t at) {
  return static_cast<size_t>(std::lower_bound(list.begin(), list.end(), at) - list.begin());
}

// The token without the white space that it begins with, if it is more than that.
TextSpan WithoutSpace(std::string_view text, TextSpan token) {
  const size_t begin = SpaceAfter(text.substr(0, token.end), token.begin);
  return begin < token.end ? ToSpan(begin, token.end) : token;
}

}  // namespace

absl::StatusOr<TextWindows> TextWindows::Create(const Tokenizer& tokenizer, std::string_view text) {
  absl::StatusOr<Encoding> encoding = tokenizer.Encode(text, {.add_special_tokens = false, .spans = true});
  if (!encoding.ok()) return encoding.status();
  absl::StatusOr<std::vector<uint32_t>> sentence_ends = SentenceEnds(text);
  if (!sentence_ends.ok()) return sentence_ends.status();
  absl::StatusOr<std::vector<uint32_t>> word_ends = WordEnds(text);
  if (!word_ends.ok()) return word_ends.status();
  return TextWindows(text, {.sentence_ends = *std::move(sentence_ends),
                            .word_ends = *std::move(word_ends),
                            .tokens = std::move(encoding->spans)});
}

TextWindows::TextWindows(std::string_view text, TextCuts cuts) : text_(text), cuts_(std::move(cuts)) {
  begins_.reserve(cuts_.tokens.size());
  ends_.reserve(cuts_.tokens.size());
  uint32_t reached = 1;
  for (const TextSpan whole : cuts_.tokens) {
    const TextSpan token = WithoutSpace(text, whole);
    reached = std::max(reached, token.end);
    ends_.push_back(reached);
    begins_.push_back(std::min(token.begin, reached - 1));
  }
  for (size_t i = begins_.size(); i-- > 1;) begins_[i - 1] = std::min(begins_[i - 1], begins_[i]);
}

size_t TextWindows::TokensOf(TextSpan part) const { return CountBelow(begins_, part.end) - CountTo(ends_, part.begin); }

size_t TextWindows::FurthestEnd(size_t begin, size_t room) const {
  const size_t before = CountTo(ends_, begin);
  return room < begins_.size() - before ? begins_[before + room] : text_.size();
}

size_t TextWindows::EarliestBegin(size_t end, size_t room) const {
  const size_t begun = CountBelow(begins_, end);
  return begun > room ? ends_[begun - room - 1] : 0;
}

TextSpan TextWindows::From(size_t begin, size_t room) const {
  if (begin >= text_.size()) return ToSpan(begin, begin);
  const size_t furthest = FurthestEnd(begin, room);
  for (const std::vector<uint32_t>* ends : {&cuts_.sentence_ends, &cuts_.word_ends}) {
    const size_t count = CountTo(*ends, furthest);
    if (count > 0 && (*ends)[count - 1] > begin) return ToSpan(begin, (*ends)[count - 1]);
  }
  size_t end = furthest;
  while (end > begin && !IsCharacterBoundary(text_, end)) --end;
  return ToSpan(begin, end > begin ? end : begin + ReadUtf8(text_, begin).length);
}

// The first of `ends`, from `earliest` up to `end`, from which on there is room for the next of them behind `end`.
std::optional<size_t> TextWindows::NextBegin(const std::vector<uint32_t>& ends, size_t end, size_t room,
                                             size_t earliest) const {
  const size_t next = CountTo(ends, end);
  if (next == ends.size()) return std::nullopt;
  const size_t begin = CountBelow(ends, std::max(earliest, EarliestBegin(ends[next], room)));
  if (begin >= next) return std::nullopt;
  return ends[begin];
}

TextSpan TextWindows::Next(TextSpan window, size_t room, size_t overlap) const {
  const size_t end = window.end;
  const size_t earliest = std::max<size_t>(window.begin + 1, EarliestBegin(end, overlap));
  const std::optional<size_t> sentence = NextBegin(cuts_.sentence_ends, end, room, earliest);
  if (sentence) return From(*sentence, room);
  // From a sentence before the one that `end` is in there would be no more than the sentences that fitted before.
  const size_t ended = CountTo(cuts_.sentence_ends, end);
  const size_t own_sentence = ended > 0 ? cuts_.sentence_ends[ended - 1] : 0;
  const std::optional<size_t> word = NextBegin(cuts_.word_ends, end, room, std::max(earliest, own_sentence));
  return From(word.value_or(end), room);
}

std::optional<TextSpan> TextWindows::Grow(TextSpan inside, size_t room, const std::vector<uint32_t>& ends) const {
  // The window goes from the end of the part before `first` to that of `last`.
  size_t first = CountTo(ends, inside.begin);
  size_t last = CountBelow(ends, inside.end);
  const auto window = [&ends](size_t from, size_t to) { return ToSpan(from > 0 ? ends[from - 1] : 0, ends[to]); };
  const auto fits = [&](size_t from, size_t to) { return TokensOf(window(from, to)) <= room; };
  if (last == ends.size() || !fits(first, last)) return std::nullopt;
  bool left = true;
  bool right = true;
  while (true) {
    left = left && first > 0 && fits(first - 1, last);
    right = right && last + 1 < ends.size() && fits(first, last + 1);
    const TextSpan now = window(first, last);
    if (!left && !right) return now;
    const size_t before = TokensOf(ToSpan(now.begin, inside.begin));
    const size_t behind = TokensOf(ToSpan(inside.end, now.end));
    if (left && (!right || before <= behind)) {
      --first;
    } else {
      ++last;
    }
  }
}

std::optional<TextSpan> TextWindows::Around(TextSpan inside, size_t room) const {
  if (TokensOf(inside) > room) return std::nullopt;
  for (const std::vector<uint32_t>* ends : {&cuts_.sentence_ends, &cuts_.word_ends}) {
    const std::optional<TextSpan> window = Grow(inside, room, *ends);
    if (window) return window;
  }
  return inside;
}

}  // namespace elserve
