// The way of a text to its tokens: raw added tokens -> normalizer -> normalized added tokens -> pre-tokenizer -> model.
#ifndef ELSERVE_SERVER_TEXT_TEXT_ENCODER_H_
#define ELSERVE_SERVER_TEXT_TEXT_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "server/text/added_tokens.h"
#include "server/text/normalizer.h"
#include "server/text/pre_tokenizer.h"
#include "server/text/token_model.h"

namespace elserve {

// The parts of a tokenizer that a text goes through. Constant once it is built.
struct TextPipeline {
  AddedTokens added;
  std::optional<Normalizer> normalizer;
  std::optional<PreTokenizer> pre_tokenizer;
  std::unique_ptr<TokenModel> model;
  bool leading_code = false;  // see TokenizerSpec
  bool ends_words = false;    // words end before a space: the parts of a normalized text become the same tokens
};

// Encodes the text of one call.
class TextEncoder {
 public:
  struct Limit {
    size_t tokens;  // once there are more, the rest of the text is left alone
    bool keep;      // the tokens that were found by then are the text's first ones; else they are of no use
  };

  // The pipeline must outlive this.
  TextEncoder(const TextPipeline& pipeline, Limit limit);

  // Encodes valid UTF-8. Not OK if PCRE2 failed, or if normalizing made the text too long for any model.
  absl::Status Encode(std::string_view text);

  // The same with the spans of tokens, in bytes of the text. Slower: it follows each byte through all steps.
  absl::Status EncodeWithSpans(std::string_view text);

  TokenList& tokens() { return tokens_; }
  // There are more tokens than the limit.
  bool exceeded() const { return exceeded_; }

 private:
  struct Range {  // of tokens_
    size_t begin;
    size_t end;
  };
  // absl::Hash is seeded, so that no text can be made to collide.
  struct ViewHash {
    size_t operator()(std::string_view text) const;
  };

  absl::Status Outcome() const;
  // All of these return false once nothing more is to be encoded.
  bool AddToken(int32_t id, uint32_t begin, uint32_t end);
  bool EncodeStretch(std::string_view text, const TextPiece& piece);
  bool EncodeNormalized(std::string_view text, PreTokenizer::Place place);
  bool EncodeWords(std::string_view text, PreTokenizer::Place place);
  bool EncodeWord(std::string_view word);
  bool Append(std::string_view word, TokenList& tokens);
  bool EncodeStretchWithSpans(std::string_view text, TextPiece piece);
  bool EncodeLeadingCode(std::string_view text, TextPiece& piece);
  bool MayFit(std::string_view added);
  bool MayCut(std::string_view text, size_t stretch, size_t at);
  // Whether the first byte of the normalized stretch comes from the first of the text.
  bool BeginsText(std::string_view stretch) const;
  std::string_view Remember(std::string_view word);

  const TextPipeline& pipeline_;
  const Limit limit_;
  TokenList tokens_;
  bool exceeded_ = false;
  bool too_large_ = false;
  PreTokenizer::Words words_;
  std::unique_ptr<TokenModel::Scratch> scratch_;
  std::string normalized_;
  std::optional<size_t> code_end_;  // the first "<<" behind where it was looked for last
  // Of a stretch that is taken in parts: what is normalized and has no word's end yet, and where that stands.
  std::string pending_;
  PreTokenizer::Place place_;
  size_t covered_ = 0;  // bytes of pending_ that tokens must cover; see MayFit
  // Words that come again in a text are looked up instead of encoded again. What they are spelled like is kept in
  // blocks.
  absl::flat_hash_map<std::string_view, Range, ViewHash> seen_;
  std::vector<std::unique_ptr<char[]>> spellings_;
  size_t block_used_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_TEXT_ENCODER_H_
