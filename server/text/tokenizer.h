// Text to token ids and back, as transformers' tokenizers of encoder-decoder models do it.
#ifndef ELSERVE_SERVER_TEXT_TOKENIZER_H_
#define ELSERVE_SERVER_TEXT_TOKENIZER_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/detokenizer.h"
#include "server/text/frame.h"
#include "server/text/token_model.h"

namespace elserve {

struct EncodeOptions {
  // Adds what the post-processor adds around one text (<s> ... </s>). Special tokens that stand in the text become
  // their ids either way, as in transformers.
  bool add_special_tokens = true;
  // The languages that the frame tells of; "": the tokenizer's own. Only with add_special_tokens.
  std::string_view source_language = {};
  std::string_view target_language = {};
  // The text is an answer: what the model writes, not what it reads. Marian has a model of its own for it (target.spm).
  bool is_answer = false;
  // Asks for Encoding::spans. Slower.
  bool spans = false;
  // The most tokens there may be, special ones included; nullopt: no limit. Where there are more, encoding stops early
  // and Encoding::too_long is set.
  std::optional<size_t> max_tokens = std::nullopt;
  // A text that is too long gives what transformers' truncation leaves of it: the frame whole, and of the text's tokens
  // the first (or the last, where truncation_side says so). Else its ids are of no use.
  bool truncate = false;
};

struct Encoding {
  std::vector<int32_t> ids;
  // Of each id, in bytes of the text; {0, 0} for those that no text made. As the tokenizers library's offsets.
  std::vector<TextSpan> spans;
  bool too_long = false;
};

// Immutable after Load: all of it may be called from any thread at once.
class Tokenizer final {
 public:
  // Reads the tokenizer of a Hugging Face directory: from tokenizer.json, or else from the files of its family
  // (vocab.json and merges.txt, spiece.model, sentencepiece.bpe.model, source.spm and target.spm), with
  // tokenizer_config.json, special_tokens_map.json and added_tokens.json where they exist. The files are untrusted:
  // what is missing, broken or not supported is an error that names file and key.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::filesystem::path& directory);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  ~Tokenizer();

  // The ids of tokenizer(text, add_special_tokens=...). Text that is not valid UTF-8 is INVALID_ARGUMENT, with the
  // offset of the first bad byte; so are languages that the tokenizer does not have, and max_tokens below the frame's.
  // Takes time linear in the text but for a logarithm.
  absl::StatusOr<Encoding> Encode(std::string_view text, const EncodeOptions& options = {}) const;

  // What stands around a text of these languages; "": the tokenizer's own. INVALID_ARGUMENT (to be completed with the
  // field) for a code that is none of languages(), with the list of those.
  absl::StatusOr<Frame> FrameOf(std::string_view source_language, std::string_view target_language) const;

  // The text of tokenizer.decode(ids, skip_special_tokens=...), always valid UTF-8: bytes that form no character become
  // U+FFFD. Ids without a token (holes of the vocabulary, ids outside it) give nothing, as in transformers.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  // The same while ids are still coming. The tokenizer must outlive it.
  Detokenizer NewDetokenizer(bool skip_special_tokens = true) const;

  // Of each id the bytes that it adds to a text that it does not begin, special tokens as they are spelled; of a token
  // of bytes these, which need not form characters. Empty for ids without a token. As
  // StopStringCriteria.clean_tokenizer_vocab of transformers. Takes as long as decoding the vocabulary.
  std::vector<std::string> TokenBytes() const;
  // The most tokens with text of their own that a text can be made of: as many as it has characters, or bytes where
  // there are tokens of bytes.
  size_t LengthInTokensAtMost(std::string_view text) const;

  // The highest id + 1, added tokens included: every id that Encode returns is in [0, vocab_size()).
  int32_t vocab_size() const;
  // True for tokens that decoding skips under skip_special_tokens.
  bool is_special(int32_t id) const;
  // The id of a token as the vocabulary spells it ("<hl>", "Ġthe"), added tokens first; nullopt: there is none.
  std::optional<int32_t> TokenId(std::string_view token) const;
  // What the vocabulary calls an id; nullopt: a hole, or out of range. Valid as long as the tokenizer.
  std::optional<std::string_view> TokenText(int32_t id) const;
  // tokenizer_config.json's model_max_length in tokens, special ones included; nullopt where it states no real limit.
  std::optional<int64_t> model_max_length() const;
  // tokenizer_config.json's truncation_side: truncation leaves the end of a text, and not its beginning.
  bool truncates_left() const;

  // The languages that texts can be in, in the family's order; empty: the tokenizer knows none.
  const std::vector<Language>& languages() const;
  // Whether FrameOf takes a source language.
  bool has_source_language() const;
  TargetLanguageUse target_language_use() const;

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);

  std::unique_ptr<const State> state_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_H_
