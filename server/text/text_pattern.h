// A text with named places: "answer: {answer}  context: {context}". {{ and }} are braces.
#ifndef ELSERVE_SERVER_TEXT_TEXT_PATTERN_H_
#define ELSERVE_SERVER_TEXT_TEXT_PATTERN_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/token_model.h"

namespace elserve {

class TextPattern {
 public:
  TextPattern() = default;  // an empty text

  // INVALID_ARGUMENT, to be put behind "allowed is ", unless each of the names stands in the text once, and nothing
  // else in braces.
  static absl::StatusOr<TextPattern> Parse(std::string_view text, std::span<const std::string_view> names);

  // The text as it was given.
  const std::string& text() const { return text_; }
  // Some text stands between any two names.
  bool divides() const;

  struct Filled {
    std::string text;
    std::vector<TextSpan> places;  // of each name
  };
  // values[i] in the place of names[i], as they are.
  Filled Fill(std::span<const std::string_view> values) const;

  // The opposite: what stands in the place of each name, up to the first occurrence of what the pattern has behind it;
  // nullopt: the text is not made like that.
  std::optional<std::vector<std::string_view>> Match(std::string_view text) const;

 private:
  std::string text_;
  // literals_[i], names[order_[i]], literals_[i + 1], ...
  std::vector<std::string> literals_ = {""};
  std::vector<size_t> order_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TEXT_PATTERN_H_
