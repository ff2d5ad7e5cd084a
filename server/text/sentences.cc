#include "server/text/sentences.h"

#include <unicode/ubrk.h>
#include <unicode/utext.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/text/word_splitter.h"

namespace elserve {
namespace {

constexpr std::string_view kAsciiWhiteSpace = " \t\n\v\f\r";

absl::StatusOr<std::vector<uint32_t>> Boundaries(UBreakIteratorType type, std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const std::unique_ptr<UBreakIterator, void (*)(UBreakIterator*)> iterator(ubrk_open(type, "", nullptr, 0, &error),
                                                                            ubrk_close);
  const std::unique_ptr<UText, UText* (*)(UText*)> view(
      utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &error), utext_close);
  ubrk_setUText(iterator.get(), view.get(), &error);
  if (U_FAILURE(error)) return absl::InternalError(absl::StrCat("ICU cannot cut texts: ", u_errorName(error)));
  std::vector<uint32_t> ends;
  for (int32_t at = ubrk_next(iterator.get()); at != UBRK_DONE; at = ubrk_next(iterator.get())) {
    ends.push_back(static_cast<uint32_t>(at));
  }
  return ends;
}

// The text with spaces for line ends that stand alone, so that they end no paragraph: as many bytes.
std::string Unwrapped(std::string_view text) {
  std::string unwrapped(text);
  for (size_t begin = unwrapped.find_first_of("\r\n"); begin != std::string::npos;
       begin = unwrapped.find_first_of("\r\n", begin)) {
    size_t end = begin;
    int line_ends = 0;
    for (; end < text.size() && kAsciiWhiteSpace.find(text[end]) != std::string_view::npos; ++end) {
      const bool of_pair = text[end] == '\n' && end > begin && text[end - 1] == '\r';
      if ((text[end] == '\n' && !of_pair) || text[end] == '\r') ++line_ends;
    }
    for (; begin < end; ++begin) {
      if (line_ends == 1 && (text[begin] == '\n' || text[begin] == '\r')) unwrapped[begin] = ' ';
    }
  }
  return unwrapped;
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> SentenceEnds(std::string_view text) {
  const absl::StatusOr<std::vector<uint32_t>> boundaries = Boundaries(UBRK_SENTENCE, Unwrapped(text));
  if (!boundaries.ok()) return boundaries.status();
  std::vector<uint32_t> ends;
  size_t last = SpaceAfter(text, 0);
  for (const uint32_t boundary : *boundaries) {
    if (boundary <= last) continue;  // inside white space
    last = SpaceAfter(text, boundary);
    ends.push_back(static_cast<uint32_t>(last));
  }
  if (ends.empty() && !text.empty()) ends.push_back(static_cast<uint32_t>(text.size()));
  return ends;
}

absl::StatusOr<std::vector<uint32_t>> WordEnds(std::string_view text) { return Boundaries(UBRK_LINE, text); }

}  // namespace elserve
