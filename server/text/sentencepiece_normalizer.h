// All that SentencePiece does to a text before its model: its character map, its spaces. As normalizer::Normalizer of
// the sentencepiece library.
#ifndef ELSERVE_SERVER_TEXT_SENTENCEPIECE_NORMALIZER_H_
#define ELSERVE_SERVER_TEXT_SENTENCEPIECE_NORMALIZER_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/charsmap.h"
#include "server/text/normalizer_step.h"
#include "server/text/piece_trie.h"

namespace elserve {

class SentencePieceNormalizer final : public Normalizer::Step {
 public:
  static absl::StatusOr<std::unique_ptr<const Normalizer::Step>> Create(const normalizer::SentencePiece& spec);

  bool Apply(std::string_view text, Normalizer::Part part, std::string& out) const override;
  void Apply(Normalizer::Part part, AlignedText& text) const override;
  bool CanCut(std::string_view text, size_t at) const override;

 private:
  class Writer;

  SentencePieceNormalizer() = default;
  size_t UserDefined(std::string_view text) const;
  Charsmap::Match Prefix(std::string_view text) const;
  void Run(std::string_view text, Normalizer::Part part, Writer& writer) const;

  normalizer::SentencePiece spec_;  // but for the map
  std::optional<Charsmap> charsmap_;
  PieceTrie user_defined_;
  size_t longest_user_defined_ = 0;  // in bytes
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_SENTENCEPIECE_NORMALIZER_H_
