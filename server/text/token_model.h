// What cuts normalized text into tokens: byte-pair encoding or a unigram model. Everything around it (added tokens,
// normalizer, pre-tokenizer, frame) is the tokenizer's.
#ifndef ELSERVE_SERVER_TEXT_TOKEN_MODEL_H_
#define ELSERVE_SERVER_TEXT_TOKEN_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "server/text/vocabulary.h"

namespace elserve {

// The bytes of a text that something stands for: begin included, end not.
struct TextSpan {
  uint32_t begin = 0;
  uint32_t end = 0;
  friend bool operator==(const TextSpan&, const TextSpan&) = default;
};

// Tokens in the order of the text. `spans` is filled only where `with_spans` is set, and then has as many entries as
// `ids`. Spans are in bytes of the piece that was encoded, as the tokenizers library's Token::offsets: several tokens
// may have the same span (the bytes of a character that the vocabulary lacks).
struct TokenList {
  std::vector<int32_t> ids;
  std::vector<TextSpan> spans;
  bool with_spans = false;

  void Add(int32_t id, uint32_t begin, uint32_t end) {
    ids.push_back(id);
    if (with_spans) spans.push_back({begin, end});
  }
};

// Immutable: all of it may be called from any thread at once, each with its own Scratch.
class TokenModel {
 public:
  // A piece must be shorter: positions in it are 32 bits wide.
  static constexpr size_t kMaxPieceBytes = 1 << 30;

  // Buffers that Encode reuses from piece to piece; of one model, for one thread.
  class Scratch {
   public:
    virtual ~Scratch() = default;
  };

  virtual ~TokenModel() = default;

  virtual std::unique_ptr<Scratch> MakeScratch() const = 0;

  // Appends the tokens of one piece of valid UTF-8 (a pre-token: what no token crosses the ends of). False: it has more
  // than `max_tokens`, and its first ones were appended, more than `max_tokens`. Linear in the piece but for a
  // logarithm (BPE). A unigram model leaves the rest alone once it has so many; BPE goes through all of a piece, since
  // its last merge may be at the beginning.
  virtual bool Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const = 0;

  // A bound that tells of a text, before it is cut into pieces and encoded, that it has too many tokens: no token
  // stands for more bytes of covered characters than longest_token().
  virtual size_t longest_token() const = 0;
  // Whether a character is neither left out nor a part of an unknown token of several, whatever stands beside it.
  virtual bool IsCovered(std::string_view character) const = 0;

  // The token of what the vocabulary lacks; nullopt: there is none, and what has no token is left out.
  virtual std::optional<int32_t> unk_id() const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  std::optional<int32_t> TokenId(std::string_view spelling) const { return vocabulary_.TokenId(spelling); }

 protected:
  explicit TokenModel(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

 private:
  Vocabulary vocabulary_;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TOKEN_MODEL_H_
