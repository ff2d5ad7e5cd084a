// A SentencePiece model whose pieces have the ids of another vocabulary: Marian's vocab.json is one for two models.
#ifndef ELSERVE_SERVER_TEXT_RENUMBERED_MODEL_H_
#define ELSERVE_SERVER_TEXT_RENUMBERED_MODEL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/bpe.h"
#include "server/text/token_model.h"
#include "server/text/unigram.h"

namespace elserve {

struct RenumberedSpec {
  std::variant<BpeSpec, UnigramSpec> pieces;
  std::string vocab_source = "vocab.json";  // what errors call the vocabulary
  std::vector<std::pair<std::string, int32_t>> vocab;
  std::string unk_token = "<unk>";  // of the vocabulary: for pieces that it lacks
};

class RenumberedModel final : public TokenModel {
 public:
  static absl::StatusOr<std::unique_ptr<RenumberedModel>> Create(RenumberedSpec spec);

  std::unique_ptr<Scratch> MakeScratch() const override;
  bool Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const override;
  size_t longest_token() const override { return pieces_->longest_token(); }
  bool IsCovered(std::string_view character) const override { return pieces_->IsCovered(character); }
  std::optional<int32_t> unk_id() const override { return unk_id_; }

 private:
  struct Buffers;

  RenumberedModel(Vocabulary vocabulary, std::unique_ptr<TokenModel> pieces, int32_t unk_id);

  const std::unique_ptr<TokenModel> pieces_;
  const int32_t unk_id_;
  std::vector<int32_t> ids_;  // by the piece's own id
};

// Makes the model that a spec describes.
absl::StatusOr<std::unique_ptr<TokenModel>> MakeTokenModel(const std::variant<BpeSpec, UnigramSpec>& spec);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_RENUMBERED_MODEL_H_
