// SentencePiece's own file: spiece.model, sentencepiece.bpe.model, source.spm, target.spm.
#ifndef ELSERVE_SERVER_TEXT_SENTENCEPIECE_MODEL_H_
#define ELSERVE_SERVER_TEXT_SENTENCEPIECE_MODEL_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace elserve {

struct SentencePieceModel {
  enum class Kind { kUnigram, kBpe };
  enum class Type { kNormal, kUnknown, kControl, kUserDefined, kByte, kUnused };

  struct Piece {
    std::string text;  // valid UTF-8, not empty
    float score = 0;   // finite
    Type type = Type::kNormal;
  };

  static constexpr size_t kMaxPieces = 1 << 20;
  static constexpr size_t kMaxPieceBytes = 512;
  static constexpr size_t kMaxTextBytes = 8 << 20;  // of all pieces together

  Kind kind = Kind::kUnigram;
  std::vector<Piece> pieces;  // by id; no text comes twice
  int32_t unk_id = 0;         // of the one piece of type kUnknown: what SentencePiece calls unknown
  // trainer_spec's, never beyond the pieces; -1 where there is none. trainer_unk_id is what transformers calls unknown.
  int32_t trainer_unk_id = 0;
  int32_t bos_id = 1;
  int32_t eos_id = 2;
  int32_t pad_id = -1;
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  // normalizer_spec's
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  std::string charsmap;  // "": none
};

// Reads and checks such a file. NOT_FOUND if there is none; what is broken, too large or of a kind that is not
// supported (word, char) is INVALID_ARGUMENT with the file's name.
absl::StatusOr<SentencePieceModel> ReadSentencePieceModel(const std::filesystem::path& path);

// The same from the file's bytes; `name` is what errors call it.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes, std::string_view name);

// The merges of a BPE model's pieces by rank, which the file has not: every cut of a piece into two pieces, in the
// order of the pieces, then of the left part's length. As transformers' generate_merges does where
// SentencePieceExtractor calls it. INVALID_ARGUMENT (to be completed with the file) if there are absurdly many.
absl::StatusOr<std::vector<std::pair<std::string, std::string>>> DeriveMerges(const SentencePieceModel& model);

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_SENTENCEPIECE_MODEL_H_
