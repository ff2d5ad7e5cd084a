#include "server/text/replace_pattern.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "server/text/utf8.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

constexpr size_t kMaxRepeats = 1000;

std::u32string CodePoints(std::string_view text) {
  std::u32string characters;
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = ReadUtf8(text, at);
    characters.push_back(character.code_point);
    at += character.length;
  }
  return characters;
}

absl::Status CheckSize(std::string_view pattern) {
  if (!pattern.empty() && pattern.size() <= ReplacePattern::kMaxBytes) return CheckUtf8(pattern, "the pattern");
  return absl::InvalidArgumentError(
      absl::StrFormat("the pattern has %d bytes: it must have 1 to %d", pattern.size(), ReplacePattern::kMaxBytes));
}

}  // namespace

// Reads a pattern's characters one by one.
class ReplacePattern::Parser {
 public:
  explicit Parser(std::string_view pattern) : rest_(CodePoints(pattern)) {}

  // False if the pattern is of another kind.
  bool Parse(std::vector<Alternative>& alternatives) {
    do {
      std::optional<Alternative> alternative = ParseAlternative();
      if (!alternative) return false;
      alternatives.push_back(*std::move(alternative));
    } while (Take(U'|'));
    return at_ == rest_.size();
  }

 private:
  bool Take(char32_t character) {
    if (at_ == rest_.size() || rest_[at_] != character) return false;
    ++at_;
    return true;
  }

  static bool IsPlain(char32_t character) { return std::u32string_view(U".^$*+?()[]{}|\\").find(character) == npos; }

  std::optional<Alternative> ParseAlternative() {
    Alternative all;
    while (at_ < rest_.size() && rest_[at_] != U'|') {
      Alternative atom;
      if (!ParseAtom(atom) || !ParseRepeats(atom)) return std::nullopt;
      const bool only = all.characters.empty() && (at_ == rest_.size() || rest_[at_] == U'|');
      if (only) return atom;
      // More than one: a literal.
      if (atom.is_class) return std::nullopt;
      all.characters += atom.characters;
    }
    if (all.characters.empty()) return std::nullopt;
    return all;
  }

  bool ParseAtom(Alternative& atom) {
    if (!Take(U'[')) return ParseCharacter(atom, "");
    atom.is_class = true;
    if (at_ < rest_.size() && rest_[at_] == U'^') return false;
    while (!Take(U']')) {
      // Ranges and what Oniguruma does with && and : in classes are not known here.
      if (!ParseCharacter(atom, "-&:")) return false;
    }
    return !atom.characters.empty() || atom.white_space;
  }

  // A plain or escaped character other than those in `refused`.
  bool ParseCharacter(Alternative& atom, std::string_view refused) {
    if (at_ == rest_.size()) return false;
    const char32_t character = rest_[at_++];
    if (character != U'\\') {
      if (!IsPlain(character) || (character < 0x80 && refused.find(static_cast<char>(character)) != npos)) return false;
      atom.characters.push_back(character);
      return true;
    }
    if (at_ == rest_.size()) return false;
    const char32_t escaped = rest_[at_++];
    constexpr std::pair<char32_t, char32_t> kEscapes[] = {
        {U'n', U'\n'}, {U'r', U'\r'}, {U't', U'\t'}, {U'f', U'\f'}, {U'v', U'\v'}};
    for (const auto& [letter, meaning] : kEscapes) {
      if (escaped != letter) continue;
      atom.characters.push_back(meaning);
      return true;
    }
    if (escaped == U's') {
      atom.white_space = true;
      atom.is_class = true;
      return true;
    }
    // Letters and digits mean something else; anything else means itself.
    const bool is_punctuation = escaped < 0x80 && escaped > 0x20 && !(escaped >= U'0' && escaped <= U'9') &&
                                !(escaped >= U'A' && escaped <= U'Z') && !(escaped >= U'a' && escaped <= U'z') &&
                                escaped != U'_';
    if (is_punctuation) atom.characters.push_back(escaped);
    return is_punctuation;
  }

  // + or {n,} or nothing.
  bool ParseRepeats(Alternative& atom) {
    if (Take(U'+')) {
      atom.more = true;
    } else if (Take(U'{')) {
      atom.least = 0;
      while (at_ < rest_.size() && rest_[at_] >= U'0' && rest_[at_] <= U'9' && atom.least <= kMaxRepeats) {
        atom.least = atom.least * 10 + (rest_[at_++] - U'0');
      }
      atom.more = true;
      if (!Take(U',') || !Take(U'}') || atom.least == 0 || atom.least > kMaxRepeats) return false;
    }
    if (atom.more) atom.is_class = true;
    // A repetition of a repetition, or one that takes as little as it can.
    return at_ == rest_.size() || std::u32string_view(U"+?*{").find(rest_[at_]) == npos;
  }

  static constexpr size_t npos = std::string_view::npos;

  std::u32string rest_;
  size_t at_ = 0;
};

bool ReplacePattern::Alternative::Has(char32_t character) const {
  return characters.find(character) != std::u32string::npos || (white_space && IsWhiteSpace(character));
}

size_t ReplacePattern::Alternative::MatchEnd(std::string_view text, size_t begin) const {
  size_t end = begin;
  size_t count = 0;
  const auto matches = [&](char32_t character) {
    return is_class ? Has(character) && (more || count < least)
                    : count < characters.size() && character == characters[count];
  };
  while (end < text.size()) {
    const Utf8Character character = ReadUtf8(text, end);
    if (!matches(character.code_point)) break;
    end += character.length;
    ++count;
  }
  return count >= (is_class ? least : characters.size()) ? end : begin;
}

absl::StatusOr<ReplacePattern> ReplacePattern::Literal(std::string_view text) {
  if (absl::Status status = CheckSize(text); !status.ok()) return status;
  ReplacePattern pattern;
  pattern.alternatives_.push_back({.characters = CodePoints(text)});
  pattern.SetFirst();
  return pattern;
}

absl::StatusOr<ReplacePattern> ReplacePattern::Regex(std::string_view text) {
  if (absl::Status status = CheckSize(text); !status.ok()) return status;
  ReplacePattern pattern;
  if (!Parser(text).Parse(pattern.alternatives_)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the regular expression \"%s\" is not supported: plain characters are, and one character or "
                        "class with + or {n,}",
                        text));
  }
  pattern.SetFirst();
  return pattern;
}

void ReplacePattern::SetFirst() {
  first_.assign(256, false);
  for (const Alternative& alternative : alternatives_) {
    const size_t count = alternative.is_class ? alternative.characters.size() : 1;
    for (size_t i = 0; i < count; ++i) {
      std::string bytes;
      AppendUtf8(alternative.characters[i], bytes);
      first_[static_cast<uint8_t>(bytes[0])] = true;
    }
    for (char32_t character = 0; alternative.white_space && character <= 0x3000; ++character) {
      if (!IsWhiteSpace(character)) continue;
      std::string bytes;
      AppendUtf8(character, bytes);
      first_[static_cast<uint8_t>(bytes[0])] = true;
    }
  }
}

size_t ReplacePattern::MatchEnd(std::string_view text, size_t begin) const {
  for (const Alternative& alternative : alternatives_) {
    if (const size_t end = alternative.MatchEnd(text, begin); end > begin) return end;
  }
  return begin;
}

size_t ReplacePattern::NextCandidate(std::string_view text, size_t from) const {
  while (from < text.size() && !first_[static_cast<uint8_t>(text[from])]) ++from;
  return from;
}

bool ReplacePattern::Mentions(char32_t character) const {
  return std::any_of(alternatives_.begin(), alternatives_.end(),
                     [&](const Alternative& alternative) { return alternative.Has(character); });
}

}  // namespace elserve
