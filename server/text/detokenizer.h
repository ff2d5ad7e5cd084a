// Token ids to text while they are still coming.
#ifndef ELSERVE_SERVER_TEXT_DETOKENIZER_H_
#define ELSERVE_SERVER_TEXT_DETOKENIZER_H_

#include <cstdint>
#include <span>
#include <string>

#include "server/text/tokenizer.h"

namespace elserve {

// Gives out text as soon as no later token can change it: never half a character, and never a U+FFFD that a later byte
// could still turn into a character. All that Push and Finish returned, in order, is tokenizer.Decode(all ids,
// skip_special_tokens). Of constant size: it holds at most the three bytes of an unfinished character.
class IncrementalDetokenizer {
 public:
  // The tokenizer must outlive this.
  explicit IncrementalDetokenizer(const Tokenizer& tokenizer, bool skip_special_tokens = true)
      : tokenizer_(&tokenizer), skip_special_tokens_(skip_special_tokens) {}

  // The text that these tokens complete; may be empty.
  std::string Push(std::span<const int32_t> ids);
  std::string Push(int32_t id) { return Push(std::span<const int32_t>(&id, 1)); }

  // The rest: U+FFFD for a character that never became whole, or nothing. Afterwards this is as new.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  std::string held_;  // the bytes of a character that is not yet whole
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_DETOKENIZER_H_
