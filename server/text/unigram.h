// The unigram model: of all ways to cut a piece into tokens of the vocabulary, the one whose scores sum highest.
#ifndef ELSERVE_SERVER_TEXT_UNIGRAM_H_
#define ELSERVE_SERVER_TEXT_UNIGRAM_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/text/piece_trie.h"
#include "server/text/token_model.h"

namespace elserve {

// Which library's arithmetic decides. They differ where two ways to cut a piece come closer than float32 tells apart.
enum class UnigramArithmetic {
  kTokenizers,     // float64, as Unigram::encode_optimized: what transformers runs
  kSentencePiece,  // float32, as unigram::Model::EncodeOptimized: what transformers runs for Marian
};

// A model as its files have it.
struct UnigramSpec {
  struct Piece {
    std::string text;
    double score = 0;
    // The tokenizers library knows normal pieces alone, whatever they are called.
    enum class Use {
      kNormal,
      kUserDefined,  // SentencePiece: preferred to all others that it crosses
      kUnused,       // SentencePiece: no token, though it may be spelled as one
      kNotText,      // never found in a text: control codes, bytes, SentencePiece's unknown one
    } use = Use::kNormal;
  };
  std::string source = "tokenizer.json: model.vocab";  // what errors call the pieces
  std::vector<Piece> pieces;                           // a piece's place is its id
  int32_t unk_id = 0;                                  // for a run of characters that no piece has
  bool byte_fallback = false;  // instead they become <0x00> ... <0xFF>, if all that they need are pieces
  UnigramArithmetic arithmetic = UnigramArithmetic::kTokenizers;
};

class UnigramModel final : public TokenModel {
 public:
  static constexpr size_t kMaxTextBytes = 8 << 20;  // of all pieces together
  static constexpr double kMaxScore = 1e9;          // scores must be between -this and this

  // INVALID_ARGUMENT, beginning with spec.source, for no pieces, one that comes twice, too much text, scores that are
  // not finite or too large, and an unknown id that is no piece's.
  static absl::StatusOr<std::unique_ptr<UnigramModel>> Create(UnigramSpec spec);

  std::unique_ptr<Scratch> MakeScratch() const override;
  bool Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const override;
  size_t longest_token() const override { return longest_; }
  bool IsCovered(std::string_view character) const override;
  std::optional<int32_t> unk_id() const override { return unk_id_; }

 private:
  template <typename Score>
  struct Buffers;

  explicit UnigramModel(Vocabulary vocabulary) : TokenModel(std::move(vocabulary)) {}
  absl::Status SetPieces(const UnigramSpec& spec);

  template <typename Score>
  void Extend(std::string_view piece, uint32_t begin, Buffers<Score>& buffers) const;
  template <typename Score>
  void Commit(std::string_view piece, uint32_t begin, Buffers<Score>& buffers, TokenList& tokens) const;
  template <typename Score>
  void AddTokens(std::string_view piece, uint32_t end, Buffers<Score>& buffers, TokenList& tokens) const;
  void AddUnknown(std::string_view piece, TextSpan& span, TokenList& tokens) const;
  template <typename Score>
  bool FindWays(std::string_view piece, size_t max_tokens, Buffers<Score>& buffers, TokenList& tokens) const;
  template <typename Score>
  bool EncodeWith(std::string_view piece, size_t max_tokens, Buffers<Score>& buffers, TokenList& tokens) const;

  PieceTrie trie_;                     // of what can be found in a text; values are ids
  std::vector<double> scores_;         // by id
  double lowest_score_ = 0;            // of all pieces, for SentencePiece of the normal ones
  size_t longest_ = 4;                 // bytes that one token can cover, unknown ones of one character included
  std::array<int32_t, 256> byte_ids_;  // what unknown bytes become; -1: no token
  int32_t unk_id_ = 0;
  bool byte_fallback_ = false;
  UnigramArithmetic arithmetic_ = UnigramArithmetic::kTokenizers;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_UNIGRAM_H_
