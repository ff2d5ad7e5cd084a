// The unigram model: of all ways to cut a piece into tokens of the vocabulary, the one whose scores sum highest.
#ifndef ELSERVE_SERVER_TEXT_UNIGRAM_H_
#define ELSERVE_SERVER_TEXT_UNIGRAM_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/piece_trie.h"
#include "server/text/token_model.h"

namespace elserve {

// Which library's arithmetic decides. They differ where two ways to cut a piece are within float32's rounding.
enum class UnigramArithmetic {
  kTokenizers,     // float64, as Unigram::encode_optimized: what transformers runs
  kSentencePiece,  // float32, as unigram::Model::EncodeOptimized: what transformers' Marian runs
};

// A model as its files have it; a piece's place is its id.
struct UnigramSpec {
  struct Piece {
    std::string text;
    double score = 0;
    // SentencePiece alone tells these from others. Pieces that never come from text: control codes, the unknown one,
    // unused ones and bytes.
    bool from_text = true;
    bool user_defined = false;  // found before all others: its score is the longest's
  };
  std::string source = "tokenizer.json: model.vocab";  // what errors call the pieces
  std::vector<Piece> pieces;
  int32_t unk_id = 0;
  bool byte_fallback = false;  // unknown characters become <0x00> ... <0xFF>, if those are pieces
  UnigramArithmetic arithmetic = UnigramArithmetic::kTokenizers;
};

class UnigramModel final : public TokenModel {
 public:
  // INVALID_ARGUMENT for no pieces, one that comes twice or is empty where text is looked for, an unknown id out of
  // range, and scores that are not finite or too large to be summed.
  static absl::StatusOr<std::unique_ptr<UnigramModel>> Create(const UnigramSpec& spec);

  std::unique_ptr<Scratch> MakeScratch() const override;
  bool Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const override;
  std::optional<int32_t> unk_id() const override { return unk_id_; }

 private:
  template <typename Score>
  struct Lattice;
  struct Emitter;

  explicit UnigramModel(Vocabulary vocabulary) : TokenModel(std::move(vocabulary)) {}

  PieceTrie trie_;  // of the pieces that come from text; values are ids
  int32_t unk_id_ = 0;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_UNIGRAM_H_
