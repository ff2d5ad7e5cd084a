// Text to token ids and back, as transformers' tokenizers of the BART and RoBERTa family do it: byte-level BPE.
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

namespace elserve {

struct EncodeOptions {
  // Adds what the post-processor adds around one text (<s> ... </s>). Special tokens that stand in the text become
  // their ids either way, as in transformers.
  bool add_special_tokens = true;
};

// Immutable after Load: all of it may be called from any thread at once.
class Tokenizer final {
 public:
  // Reads the tokenizer of a Hugging Face directory as transformers' AutoTokenizer does: from tokenizer.json, or else
  // from vocab.json and merges.txt, with tokenizer_config.json, special_tokens_map.json and added_tokens.json where
  // they exist. The files are untrusted: what is missing, broken or not supported is an error that names file and key.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::filesystem::path& directory);

  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;
  ~Tokenizer();

  // The ids of tokenizer(text, add_special_tokens=...). Text that is not valid UTF-8 is INVALID_ARGUMENT, with the
  // offset of the first bad byte. Nothing is truncated. Takes time linear in the text but for a logarithm.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, EncodeOptions options = {}) const;

  // The text of tokenizer.decode(ids, skip_special_tokens=...), always valid UTF-8: bytes that form no character become
  // U+FFFD. Ids without a token (holes of the vocabulary, ids outside it) give nothing, as in transformers.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens = true) const;

  // The bytes that one id adds to a decoded text before invalid UTF-8 is replaced; they may be part of a character.
  // Empty for an id without a token. Valid as long as the tokenizer.
  std::string_view TokenBytes(int32_t id) const;

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

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<const State> state);

  std::unique_ptr<const State> state_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKENIZER_H_
