#include "server/text/text_pattern.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

// `problem`: "this has {foo}".
absl::Status NoPattern(std::span<const std::string_view> names, std::string_view problem) {
  std::string allowed = "a text with ";
  for (size_t i = 0; i < names.size(); ++i) {
    absl::StrAppend(&allowed, i == 0 ? "" : " and ", "{", std::string(names[i]), "}");
  }
  return absl::InvalidArgumentError(
      absl::StrCat(allowed, " once each, and {{ and }} for braces; ", std::string(problem)));
}

}  // namespace

absl::StatusOr<TextPattern> TextPattern::Parse(std::string_view text, std::span<const std::string_view> names) {
  TextPattern pattern;
  pattern.text_ = text;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c != '{' && c != '}') {
      pattern.literals_.back() += c;
      continue;
    }
    if (at + 1 < text.size() && text[at + 1] == c) {
      pattern.literals_.back() += c;
      ++at;
      continue;
    }
    const size_t end = text.find('}', at);
    if (c == '}' || end == std::string_view::npos) {
      return NoPattern(names, absl::StrCat("this has a single ", std::string(1, c), " at byte ", at));
    }
    const std::string_view name = text.substr(at + 1, end - at - 1);
    const auto known = std::find(names.begin(), names.end(), name);
    if (known == names.end()) return NoPattern(names, absl::StrCat("this has {", std::string(name), "}"));
    const auto index = static_cast<size_t>(known - names.begin());
    if (std::find(pattern.order_.begin(), pattern.order_.end(), index) != pattern.order_.end()) {
      return NoPattern(names, absl::StrCat("this has {", std::string(name), "} twice"));
    }
    pattern.order_.push_back(index);
    pattern.literals_.emplace_back();
    at = end;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (std::find(pattern.order_.begin(), pattern.order_.end(), i) == pattern.order_.end()) {
      return NoPattern(names, absl::StrCat("this has no {", std::string(names[i]), "}"));
    }
  }
  return pattern;
}

bool TextPattern::divides() const {
  for (size_t i = 1; i + 1 < literals_.size(); ++i) {
    if (literals_[i].empty()) return false;
  }
  return true;
}

TextPattern::Filled TextPattern::Fill(std::span<const std::string_view> values) const {
  Filled filled{.text = literals_[0], .places = std::vector<TextSpan>(order_.size())};
  for (size_t i = 0; i < order_.size(); ++i) {
    const auto begin = static_cast<uint32_t>(filled.text.size());
    filled.text += values[order_[i]];
    filled.places[order_[i]] = {begin, static_cast<uint32_t>(filled.text.size())};
    filled.text += literals_[i + 1];
  }
  return filled;
}

std::optional<std::vector<std::string_view>> TextPattern::Match(std::string_view text) const {
  std::vector<std::string_view> values(order_.size());
  if (!text.starts_with(literals_[0])) return std::nullopt;
  text.remove_prefix(literals_[0].size());
  for (size_t i = 0; i < order_.size(); ++i) {
    const std::string& behind = literals_[i + 1];
    const bool last = i + 1 == order_.size();
    if (last && !text.ends_with(behind)) return std::nullopt;
    const size_t end = last ? text.size() - behind.size() : text.find(behind);
    if (end == std::string_view::npos) return std::nullopt;
    values[order_[i]] = text.substr(0, end);
    text.remove_prefix(end + behind.size());
  }
  if (!text.empty()) return std::nullopt;
  return values;
}

}  // namespace elserve
