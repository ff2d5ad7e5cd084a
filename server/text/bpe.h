// Byte-pair encoding: a piece's bytes or characters become the vocabulary's tokens by merges in the order of their
// rank.
#ifndef ELSERVE_SERVER_TEXT_BPE_H_
#define ELSERVE_SERVER_TEXT_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/text/token_model.h"

namespace elserve {

// What merging begins with.
enum class BpeAlphabet {
  kBytes,       // GPT-2 and BART: each byte, spelled by its character of byte_level.h
  kCharacters,  // SentencePiece: each character
};

// A model as its files have it: tokens in the vocabulary's spelling.
struct BpeSpec {
  std::string vocab_source = "vocab.json";   // what errors call the vocabulary: "tokenizer.json: model.vocab"
  std::string merges_source = "merges.txt";  // likewise
  std::vector<std::pair<std::string, int32_t>> vocab;
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, the first merge first
  BpeAlphabet alphabet = BpeAlphabet::kBytes;
  bool byte_fallback = false;            // characters without a token become <0x00> ... <0xFF>, if all are tokens
  std::optional<std::string> unk_token;  // for what has no token then; nullopt: it is left out
  bool fuse_unk = false;                 // one unknown token for a run of such bytes or characters
  bool ignore_merges = false;            // a piece that is a token becomes it without merging
};

class BpeModel final : public TokenModel {
 public:
  // Checks that ids are unique and in range and that merges refer to tokens of the vocabulary; what is wrong is
  // INVALID_ARGUMENT with the file and the key.
  static absl::StatusOr<std::unique_ptr<BpeModel>> Create(BpeSpec spec);

  std::unique_ptr<Scratch> MakeScratch() const override;
  bool Encode(std::string_view piece, size_t max_tokens, Scratch& scratch, TokenList& tokens) const override;
  size_t longest_token() const override { return longest_; }
  bool IsCovered(std::string_view character) const override;
  std::optional<int32_t> unk_id() const override;

 private:
  struct Buffers;
  struct Merged {
    uint32_t rank;
    int32_t id;
  };
  // The id of each character that is a token: pages of 256 code points, so that none is hashed.
  class CharacterIds {
   public:
    void Set(uint32_t code_point, int32_t id);
    int32_t Get(uint32_t code_point) const {  // -1: none
      const uint32_t page = pages_[code_point >> 8];
      return page == 0 ? -1 : ids_[page + (code_point & 0xFF)];
    }

   private:
    std::array<uint32_t, 0x1100> pages_ = {};  // where a page's ids begin; 0: none of it is a token
    std::vector<int32_t> ids_ = {-1};
  };

  explicit BpeModel(Vocabulary vocabulary) : TokenModel(std::move(vocabulary)) {}
  absl::Status SetMerges(const BpeSpec& spec);
  absl::Status SetAlphabet(const BpeSpec& spec);
  bool SetBytes();
  void SetCharacters();
  std::array<int32_t, 256> ByteTokens() const;

  std::optional<int32_t> WholePiece(std::string_view piece) const;
  void SetSymbols(std::string_view piece, Buffers& buffers) const;
  void SetByteSymbols(std::string_view piece, Buffers& buffers) const;
  void SetCharacterSymbols(std::string_view piece, Buffers& buffers) const;
  bool AddByteTokens(std::string_view character, Buffers& buffers) const;
  const Merged* FindMerge(int32_t left, int32_t right) const;
  const Merged* SetMerged(uint32_t position, Buffers& buffers) const;
  void PushMerge(uint32_t position, Buffers& buffers) const;
  void MergeSymbols(Buffers& buffers) const;

  absl::flat_hash_map<uint64_t, Merged> merges_;  // by left id << 32 | right id
  std::vector<int32_t> merged_ids_;               // by rank
  BpeAlphabet alphabet_ = BpeAlphabet::kBytes;
  std::array<int32_t, 256> byte_ids_;  // -1: no token. kBytes: what a byte is; kCharacters: what it falls back to
  CharacterIds character_ids_;         // of kCharacters
  int32_t unk_id_ = -1;                // -1: none
  size_t longest_ = 0;                 // bytes that a token can cover, unknown ones of one character included
  bool covers_all_ = false;            // nothing is left out or becomes one token with its neighbours
  bool fuse_unk_ = false;
  bool ignore_merges_ = false;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_BPE_H_
