// Token ids to text while they are still coming.
#ifndef ELSERVE_SERVER_TEXT_DETOKENIZER_H_
#define ELSERVE_SERVER_TEXT_DETOKENIZER_H_

#include <cstdint>
#include <span>
#include <string>

#include "server/text/added_tokens.h"
#include "server/text/decoder.h"
#include "server/text/vocabulary.h"

namespace elserve {

// Gives out text as soon as no later token can change it: never half a character, never a U+FFFD that a later byte
// could still turn into a character, no space that the text's end would take away. All that Push and Finish returned,
// in order, is tokenizer.Decode(all ids, skip_special_tokens). It holds back what the decoder's steps have to: mostly
// the bytes of an unfinished character, at most a run of byte tokens or of white space. Made by
// Tokenizer::NewDetokenizer.
class Detokenizer {
 public:
  // What the tokens are called, and what becomes of them. All of it must outlive the detokenizer.
  struct Parts {
    const AddedTokens& added;
    const Vocabulary& vocabulary;
    const Decoder& decoder;
  };

  Detokenizer(const Parts& parts, bool skip_special_tokens)
      : parts_(parts), skip_special_tokens_(skip_special_tokens), stream_(parts.decoder) {}

  // The text that these tokens complete; may be empty.
  std::string Push(std::span<const int32_t> ids);
  std::string Push(int32_t id) { return Push(std::span<const int32_t>(&id, 1)); }

  // The rest: U+FFFD for a character that never became whole, or nothing. Afterwards this is as new.
  std::string Finish();

 private:
  Parts parts_;
  bool skip_special_tokens_;
  Decoder::Stream stream_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_DETOKENIZER_H_
