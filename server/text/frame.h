// What stands around a text: special tokens and codes of languages.
#ifndef ELSERVE_SERVER_TEXT_FRAME_H_
#define ELSERVE_SERVER_TEXT_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace elserve {

// The tokens around one text, and what its target language asks of the decoder.
struct Frame {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  // The token of the target language where one was named; what it is for is Tokenizer::target_language_use.
  std::optional<int32_t> target;

  size_t size() const { return before.size() + after.size(); }
};

// What a family does with the language that is to be written.
enum class TargetLanguageUse {
  kNone,          // it has none
  kForcedBos,     // Frame::target is the first token that is generated (mBART-50)
  kDecoderStart,  // Frame::target is what the decoder starts with, where the checkpoint's is a language's (mBART)
  kBeforeText,    // Frame::before says it to the encoder (Marian)
};

// A language that the vocabulary has a token for.
struct Language {
  std::string code;  // as requests name it: "en_XX", "fra"
  int32_t id = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_FRAME_H_
