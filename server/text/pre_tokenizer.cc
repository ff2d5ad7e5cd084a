#include "server/text/pre_tokenizer.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "server/text/utf8.h"

namespace elserve {

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<pre_tokenizer::Step>& steps) {
  if (steps.size() > kMaxSteps) {
    return absl::InvalidArgumentError(absl::StrFormat("has %d steps: at most %d", steps.size(), kMaxSteps));
  }
  PreTokenizer made;
  for (const pre_tokenizer::Step& step : steps) {
    if (made.byte_level_ || made.metaspace_) {
      return absl::InvalidArgumentError("has a step behind ByteLevel or Metaspace: these must be the last");
    }
    if (const auto* byte_level = std::get_if<pre_tokenizer::ByteLevel>(&step)) {
      made.byte_level_ = *byte_level;
    } else if (const auto* metaspace = std::get_if<pre_tokenizer::Metaspace>(&step)) {
      if (metaspace->replacement.empty() ||
          ReadUtf8(metaspace->replacement, 0).length != metaspace->replacement.size()) {
        return absl::InvalidArgumentError("has Metaspace whose replacement is not one character");
      }
      made.metaspace_ = *metaspace;
    } else {
      made.whitespace_split_ = true;
    }
  }
  return made;
}

bool PreTokenizer::ends_words() const {
  if (byte_level_) return byte_level_->use_regex || whitespace_split_;
  return whitespace_split_ || (metaspace_ && metaspace_->split);
}

bool PreTokenizer::Words::Runs(std::string_view text, absl::FunctionRef<bool(size_t, size_t)> take) const {
  if (!steps_.whitespace_split_) return text.empty() || take(0, text.size());
  size_t begin = 0;
  size_t at = 0;
  while (at < text.size()) {
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte > ' ' && byte < 0x80) {
      ++at;
      continue;
    }
    const Utf8Character character = ReadUtf8(text, at);
    if (IsWhiteSpace(character.code_point)) {
      if (begin < at && !take(begin, at)) return false;
      begin = at + character.length;
    }
    at += character.length;
  }
  return begin == text.size() || take(begin, text.size());
}

std::string_view PreTokenizer::Words::Prefix(std::string_view text, Place place) const {
  using Prepend = pre_tokenizer::Metaspace::Prepend;
  if (!place.begins) return {};
  if (steps_.byte_level_) return steps_.byte_level_->add_prefix_space && text[0] != ' ' ? " " : "";
  if (!steps_.metaspace_ || steps_.metaspace_->prepend == Prepend::kNever) return {};
  if (steps_.metaspace_->prepend == Prepend::kFirst && !place.begins_text) return {};
  const std::string_view replacement = steps_.metaspace_->replacement;
  return text[0] == ' ' || text.starts_with(replacement) ? std::string_view() : replacement;
}

bool PreTokenizer::Words::Cut(std::string_view text, absl::FunctionRef<bool(size_t, size_t)> take) {
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.size();
    if (steps_.byte_level_ && steps_.byte_level_->use_regex) {
      const size_t length = splitter_.NextWord(text, at);
      failed_ = length == 0;
      if (failed_) return false;
      end = at + length;
    } else if (steps_.metaspace_ && steps_.metaspace_->split) {
      const std::string_view replacement = steps_.metaspace_->replacement;
      end = std::min(text.find(replacement, at + (text.substr(at).starts_with(replacement) ? replacement.size() : 0)),
                     text.size());
    }
    if (!take(at, end)) return false;
    at = end;
  }
  return true;
}

// As Cut, with spaces replaced on the way.
bool PreTokenizer::Words::Metaspaced(std::string_view text, bool prepend, Take take) {
  const std::string_view replacement = steps_.metaspace_->replacement;
  const bool split = steps_.metaspace_->split;
  buffer_.clear();
  if (prepend) buffer_ = replacement;
  // Never 0 to 0x20 in a character of several bytes: what is compared are the first bytes of characters.
  const char mark = replacement[0];
  for (size_t at = 0; at < text.size();) {
    const bool space = text[at] == ' ';
    if (space || (text[at] == mark && text.substr(at).starts_with(replacement))) {
      if (split && !buffer_.empty()) {
        if (!take(buffer_)) return false;
        buffer_.clear();
      }
      buffer_ += replacement;
      at += space ? 1 : replacement.size();
      continue;
    }
    size_t end = at + 1;
    while (end < text.size() && text[end] != ' ' && text[end] != mark) ++end;
    buffer_.append(text.substr(at, end - at));
    at = end;
  }
  return buffer_.empty() || take(buffer_);
}

bool PreTokenizer::Words::Each(std::string_view text, Place place, Take take) {
  return Runs(text, [&](size_t begin, size_t end) {
    const std::string_view run = text.substr(begin, end - begin);
    const Place here = {.begins_text = place.begins_text && begin == 0,
                        .begins = place.begins || steps_.whitespace_split_};
    const std::string_view prefix = Prefix(run, here);
    if (steps_.metaspace_) return Metaspaced(run, !prefix.empty(), take);
    std::string_view whole = run;
    if (!prefix.empty()) {
      buffer_.clear();
      buffer_.append(prefix).append(run);
      whole = buffer_;
    }
    return Cut(whole, [&](size_t from, size_t to) { return take(whole.substr(from, to - from)); });
  });
}

bool PreTokenizer::Words::EachAligned(std::string_view text, Place place, TakeAligned take) {
  return Runs(text, [&](size_t begin, size_t end) {
    const std::string_view run = text.substr(begin, end - begin);
    const Place here = {.begins_text = place.begins_text && begin == 0,
                        .begins = place.begins || steps_.whitespace_split_};
    const std::string_view prefix = Prefix(run, here);
    AlignedText edited(run);
    if (steps_.metaspace_) {
      std::vector<TextSpan> spaces;
      for (size_t at = 0; (at = run.find(' ', at)) != std::string_view::npos; ++at) {
        spaces.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(at + 1)});
      }
      edited.Replace(spaces, steps_.metaspace_->replacement);
    }
    if (!prefix.empty()) edited.Prepend(prefix);
    return Cut(edited.text(), [&](size_t from, size_t to) {
      return take(edited, {static_cast<uint32_t>(from), static_cast<uint32_t>(to)}, begin);
    });
  });
}

}  // namespace elserve
