#include "server/text/decoder.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "server/text/byte_level.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

constexpr std::string_view kReplacementCharacter = "\uFFFD";
constexpr std::string_view kSpaceSymbol = "\u2581";  // SentencePiece's

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

std::string ReplaceAll(std::string_view text, std::string_view pattern, std::string_view content) {
  return absl::StrReplaceAll(View(text), {{View(pattern), View(content)}});
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// str.isspace: Unicode's White_Space and the four separators of ASCII.
bool IsPythonSpace(uint32_t c) { return IsWhiteSpace(c) || (c >= 0x1C && c <= 0x1F); }

// Where the white space that `text` ends with begins.
size_t TrailingSpace(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    const size_t begin = PreviousCharacter(text, end);
    if (!IsPythonSpace(ReadUtf8(text, begin).code_point)) break;
    end = begin;
  }
  return end;
}

size_t LeadingSpace(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Character character = ReadUtf8(text, at);
    if (!IsPythonSpace(character.code_point)) break;
    at += character.length;
  }
  return at;
}

// The bytes at the end of `text` that could be the beginning of `pattern`, whole matches being gone.
size_t OpenMatch(std::string_view text, std::string_view pattern) {
  size_t length = std::min(text.size(), pattern.size() - 1);
  while (length > 0 && !text.ends_with(pattern.substr(0, length))) --length;
  return length;
}

// Whether what can no longer become a character is one U+FFFD for each byte, as SentencePiece has it, or for each run.
enum class Broken { kEachByte, kEachRun };

// Takes the characters that are whole, and at the end of all tokens (`last`) the rest.
std::string TakeCharacters(bool last, Broken broken, std::string& held) {
  std::string text;
  size_t at = 0;
  while (at < held.size()) {
    const Utf8Character character = ReadUtf8(held, at);
    if (character.incomplete && !last) break;
    AppendUtf8(character.code_point, text);
    at += character.valid || broken == Broken::kEachRun ? character.length : 1;
  }
  held.erase(0, at);
  return text;
}

template <typename T>
constexpr bool kJoins = std::is_same_v<T, decoder::ByteLevel> || std::is_same_v<T, decoder::Fuse> ||
                        std::is_same_v<T, decoder::SentencePiece>;

// Whether a step can take on one long token.
template <typename T>
constexpr bool kTakesJoined = std::is_same_v<T, decoder::Fuse> || std::is_same_v<T, decoder::Replace> ||
                              std::is_same_v<T, decoder::Strip> || std::is_same_v<T, decoder::TrimWhiteSpace>;

const char* NameOf(const decoder::Step& step) {
  constexpr const char* kNames[] = {"ByteLevel", "Fuse",  "Metaspace",      "ByteFallback",
                                    "Replace",   "Strip", "TrimWhiteSpace", "SentencePiece"};
  return kNames[step.index()];
}

}  // namespace

// A plus sign is a digit's worth to Rust's u8::from_str_radix.
std::optional<char> ByteOfToken(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const int high = token[3] == '+' ? 0 : HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high << 4 | low);
}

absl::StatusOr<Decoder> Decoder::Create(std::vector<decoder::Step> steps) {
  if (steps.size() > kMaxSteps) {
    return absl::InvalidArgumentError(absl::StrFormat("has %d steps: at most %d", steps.size(), kMaxSteps));
  }
  bool joined = false;
  for (const decoder::Step& step : steps) {
    const bool fits = std::visit([](const auto& s) { return kTakesJoined<std::decay_t<decltype(s)>>; }, step);
    if (joined && !fits) {
      return absl::InvalidArgumentError(
          absl::StrFormat("has %s behind a step that joins the tokens: it must stand before", NameOf(step)));
    }
    joined = joined || std::visit([](const auto& s) { return kJoins<std::decay_t<decltype(s)>>; }, step);
    if (const auto* replace = std::get_if<decoder::Replace>(&step); replace != nullptr && replace->pattern.empty()) {
      return absl::InvalidArgumentError("has Replace with an empty pattern");
    }
    if (std::holds_alternative<decoder::TrimWhiteSpace>(step) && !joined) {
      return absl::InvalidArgumentError("has TrimWhiteSpace before the tokens are joined");
    }
  }
  return Decoder(std::move(steps));
}

void Decoder::Stream::Add(std::string_view token, int32_t id, bool special, std::string& text) {
  text_ = &text;
  id_ = id;
  special_ = special;
  Token(0, token);
}

void Decoder::Stream::End(std::string& text) {
  text_ = &text;
  for (size_t step = 0; step < states_.size(); ++step) {
    Finish(step);
    states_[step] = State();
  }
}

void Decoder::Stream::Token(size_t step, std::string_view token) {
  if (step == states_.size()) {
    text_->append(token);
    return;
  }
  std::visit([&](const auto& s) { On(s, step, token); }, decoder_->steps_[step]);
}

void Decoder::Stream::Part(size_t step, std::string_view part) {
  if (part.empty()) return;
  if (step == states_.size()) {
    text_->append(part);
    return;
  }
  const decoder::Step& what = decoder_->steps_[step];
  if (const auto* replace = std::get_if<decoder::Replace>(&what)) return OnPart(*replace, step, part);
  if (const auto* strip = std::get_if<decoder::Strip>(&what)) return OnPart(*strip, step, part);
  if (std::holds_alternative<decoder::TrimWhiteSpace>(what)) return TrimPart(step, part);
  Part(step + 1, part);  // Fuse
}

// The end of all tokens: what a step held back goes on, if it is text.
void Decoder::Stream::Finish(size_t step) {
  const decoder::Step& what = decoder_->steps_[step];
  if (std::holds_alternative<decoder::ByteLevel>(what)) return PassCharacters(step, true);
  if (std::holds_alternative<decoder::ByteFallback>(what)) return FlushByteRun(step);
  if (std::holds_alternative<decoder::SentencePiece>(what)) return PassPieceBytes(step, true);
  if (std::holds_alternative<decoder::Replace>(what)) return Part(step + 1, states_[step].held);
  if (const auto* strip = std::get_if<decoder::Strip>(&what)) {
    std::string_view rest = states_[step].held;
    for (size_t i = 0; i < strip->stop && rest.ends_with(strip->content); ++i)
      rest.remove_suffix(strip->content.size());
    return Part(step + 1, rest);
  }
}

void Decoder::Stream::On(const decoder::ByteLevel&, size_t step, std::string_view token) {
  AppendTokenBytes(token, states_[step].held);
  PassCharacters(step, false);
}

// Gives out the characters that are whole; U+FFFD for what can no longer become one.
void Decoder::Stream::PassCharacters(size_t step, bool last) {
  std::string& held = states_[step].held;
  if (!last && !held.empty() && !FirstInvalidUtf8(held)) {
    Part(step + 1, held);
    held.clear();
    return;
  }
  Part(step + 1, TakeCharacters(last, Broken::kEachRun, held));
}

void Decoder::Stream::On(const decoder::Fuse&, size_t step, std::string_view token) { Part(step + 1, token); }

void Decoder::Stream::On(const decoder::Metaspace& metaspace, size_t step, std::string_view token) {
  const bool first = states_[step].tokens++ == 0;
  Token(step + 1, ReplaceAll(token, metaspace.replacement, first && metaspace.drops_first ? "" : " "));
}

void Decoder::Stream::On(const decoder::ByteFallback&, size_t step, std::string_view token) {
  if (const std::optional<char> byte = ByteOfToken(token)) {
    states_[step].held.push_back(*byte);
    return;
  }
  FlushByteRun(step);
  Token(step + 1, token);
}

// All of a run of bytes counts: one that is out of place makes each of them U+FFFD.
void Decoder::Stream::FlushByteRun(size_t step) {
  const std::string run = std::exchange(states_[step].held, "");
  if (run.empty()) return;
  if (!FirstInvalidUtf8(run)) return Token(step + 1, run);
  for (size_t i = 0; i < run.size(); ++i) Token(step + 1, kReplacementCharacter);
}

void Decoder::Stream::On(const decoder::Replace& replace, size_t step, std::string_view token) {
  Token(step + 1, ReplaceAll(token, replace.pattern, replace.content));
}

void Decoder::Stream::OnPart(const decoder::Replace& replace, size_t step, std::string_view part) {
  std::string& held = states_[step].held;
  held.append(part);
  std::string text;
  size_t at = 0;
  for (size_t found; (found = held.find(replace.pattern, at)) != std::string::npos;) {
    text.append(held, at, found - at).append(replace.content);
    at = found + replace.pattern.size();
  }
  const size_t open = OpenMatch(std::string_view(held).substr(at), replace.pattern);
  text.append(held, at, held.size() - open - at);
  held.erase(0, held.size() - open);
  Part(step + 1, text);
}

void Decoder::Stream::On(const decoder::Strip& strip, size_t step, std::string_view token) {
  for (size_t i = 0; i < strip.start && token.starts_with(strip.content); ++i)
    token.remove_prefix(strip.content.size());
  for (size_t i = 0; i < strip.stop && token.ends_with(strip.content); ++i) token.remove_suffix(strip.content.size());
  Token(step + 1, token);
}

void Decoder::Stream::OnPart(const decoder::Strip& strip, size_t step, std::string_view part) {
  State& state = states_[step];
  while (!state.begun && state.removed < strip.start && part.starts_with(strip.content)) {
    part.remove_prefix(strip.content.size());
    ++state.removed;
  }
  if (part.empty()) return;
  state.begun = true;
  state.held.append(part);
  // What may yet be the end: so many of the character as go.
  size_t keep = 0;
  for (size_t i = 0;
       i < strip.stop && std::string_view(state.held).substr(0, state.held.size() - keep).ends_with(strip.content);
       ++i) {
    keep += strip.content.size();
  }
  const std::string text = state.held.substr(0, state.held.size() - keep);
  state.held.erase(0, text.size());
  Part(step + 1, text);
}

// Never comes: Create lets this step stand behind one that joins only.
void Decoder::Stream::On(const decoder::TrimWhiteSpace&, size_t step, std::string_view token) { TrimPart(step, token); }

void Decoder::Stream::TrimPart(size_t step, std::string_view part) {
  State& state = states_[step];
  if (!state.begun) part.remove_prefix(LeadingSpace(part));
  if (part.empty()) return;
  state.begun = true;
  const size_t end = TrailingSpace(part);
  if (end == 0) {
    state.held.append(part);
    return;
  }
  Part(step + 1, absl::StrCat(state.held, View(part.substr(0, end))));
  state.held = part.substr(end);
}

void Decoder::Stream::On(const decoder::SentencePiece& pieces, size_t step, std::string_view token) {
  using Kind = decoder::SentencePiece::Kind;
  State& state = states_[step];
  const auto index = static_cast<size_t>(id_);
  const Kind kind = index < pieces.kinds.size() ? pieces.kinds[index] : Kind::kUnknown;
  if (kind == Kind::kByte && !special_) {
    state.held.push_back(ByteOfToken(token).value_or(0));
    state.begun = true;
    return PassPieceBytes(step, false);
  }
  PassPieceBytes(step, true);
  if (special_) {
    state.begun = false;
    return Part(step + 1, absl::StrCat(View(token), " "));
  }
  switch (kind) {
    case Kind::kControl:
    case Kind::kByte:
      return;
    case Kind::kUnknown:
      state.begun = state.begun || !token.empty();
      return Part(step + 1, ReplaceAll(token, kSpaceSymbol, " "));
    case Kind::kPiece:
      break;
  }
  if (!state.begun && pieces.drops_first && token.starts_with(kSpaceSymbol)) {
    token.remove_prefix(kSpaceSymbol.size());
    state.begun = !pieces.drops_all_that_begin;
  }
  state.begun = state.begun || !token.empty();
  Part(step + 1, ReplaceAll(token, kSpaceSymbol, " "));
}

// SentencePiece's own: one U+FFFD for each byte that begins no character.
void Decoder::Stream::PassPieceBytes(size_t step, bool last) {
  Part(step + 1, TakeCharacters(last, Broken::kEachByte, states_[step].held));
}

}  // namespace elserve
