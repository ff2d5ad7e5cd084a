#include "server/text/aligned_text.h"

#include <algorithm>
#include <utility>

#include "server/text/utf8.h"

namespace elserve {

AlignedText::AlignedText(std::string_view text) : text_(text) {
  alignment_.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto begin = static_cast<uint32_t>(at);
    at += ReadUtf8(text, at).length;
    alignment_.resize(at, {begin, static_cast<uint32_t>(at)});
  }
}

void AlignedText::Transform(const std::vector<CharacterChange>& changes, size_t removed) {
  if (text_.empty()) return;
  size_t at = 0;  // in the old text: what comes before is done with
  const auto skip = [&](size_t characters) {
    for (; characters > 0 && at < text_.size(); --characters) at += ReadUtf8(text_, at).length;
  };
  skip(removed);
  std::string text;
  std::vector<TextSpan> alignment;
  text.reserve(text_.size());
  alignment.reserve(text_.size());
  for (const CharacterChange& change : changes) {
    TextSpan from;
    if (change.change > 0) {
      if (at > 0) from = alignment_[at - 1];
    } else {
      from = alignment_[std::min(at, text_.size() - 1)];
      skip(1 + static_cast<size_t>(-static_cast<int64_t>(change.change)));
    }
    AppendUtf8(change.character, text);
    alignment.resize(text.size(), from);
  }
  text_ = std::move(text);
  alignment_ = std::move(alignment);
}

void AlignedText::Prepend(std::string_view text) {
  if (text_.empty() || text.empty()) return;
  alignment_.insert(alignment_.begin(), text.size(), alignment_.front());
  text_.insert(0, text);
}

void AlignedText::Replace(const std::vector<TextSpan>& parts, std::string_view content) {
  std::string text;
  std::vector<TextSpan> alignment;
  text.reserve(text_.size());
  alignment.reserve(text_.size());
  size_t done = 0;
  const auto keep_to = [&](size_t end) {
    text.append(text_, done, end - done);
    alignment.insert(alignment.end(), alignment_.begin() + static_cast<ptrdiff_t>(done),
                     alignment_.begin() + static_cast<ptrdiff_t>(end));
    done = end;
  };
  for (const TextSpan part : parts) {
    keep_to(part.begin);
    text += content;
    alignment.resize(text.size(), alignment_[part.end - 1]);
    done = part.end;
  }
  keep_to(text_.size());
  text_ = std::move(text);
  alignment_ = std::move(alignment);
}

void AlignedText::Keep(size_t begin, size_t end) {
  text_ = text_.substr(begin, end - begin);
  alignment_.erase(alignment_.begin() + static_cast<ptrdiff_t>(end), alignment_.end());
  alignment_.erase(alignment_.begin(), alignment_.begin() + static_cast<ptrdiff_t>(begin));
}

void AlignedText::Become(std::string text, const std::vector<TextSpan>& parts) {
  std::vector<TextSpan> alignment;
  alignment.reserve(parts.size());
  for (const TextSpan part : parts) {
    if (part.begin < part.end) {
      alignment.push_back(Original(part));
      continue;
    }
    // Nothing, where the byte after it begins, or at the end.
    const uint32_t place = part.begin < alignment_.size() ? alignment_[part.begin].begin
                           : alignment_.empty()           ? 0
                                                          : alignment_.back().end;
    alignment.push_back({place, place});
  }
  text_ = std::move(text);
  alignment_ = std::move(alignment);
}

}  // namespace elserve
