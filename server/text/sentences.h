// Where a text may be cut, as Unicode has it (UAX 29 and 14, ICU's root locale): behind sentences, and behind words.
#ifndef ELSERVE_SERVER_TEXT_SENTENCES_H_
#define ELSERVE_SERVER_TEXT_SENTENCES_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace elserve {

// The bytes at which the sentences of a text end, ascending; the last one is the text's end, and an empty text has
// none. White space behind a sentence belongs to it, and what the text begins with to the first. A line's end inside a
// paragraph ends no sentence, since texts are wrapped; an empty line does. The text must be valid UTF-8 and below 2
// GiB. Linear time. INTERNAL if ICU cannot.
absl::StatusOr<std::vector<uint32_t>> SentenceEnds(std::string_view text);

// Likewise where a line may be broken: behind a word and the white space that follows it, between ideographs.
absl::StatusOr<std::vector<uint32_t>> WordEnds(std::string_view text);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_SENTENCES_H_
