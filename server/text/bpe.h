// Byte-pair encoding: a word's bytes become the vocabulary's tokens by merges in the order of their rank.
#ifndef ELSERVE_SERVER_TEXT_BPE_H_
#define ELSERVE_SERVER_TEXT_BPE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace elserve {

// A model as its files have it: tokens in the vocabulary's spelling.
struct BpeSpec {
  std::string vocab_source = "vocab.json";   // what errors call the vocabulary: "tokenizer.json: model.vocab"
  std::string merges_source = "merges.txt";  // likewise
  std::vector<std::pair<std::string, int32_t>> vocab;
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, the first merge first
  std::optional<std::string> unk_token;                     // for bytes without a token; nullopt: they are left out
  bool fuse_unk = false;                                    // one unknown token for a run of such bytes
  bool ignore_merges = false;                               // a word that is a token becomes it without merging
};

// Immutable after Create.
class BpeModel {
 public:
  // The highest id that is accepted: room for the largest vocabularies there are, four times over.
  static constexpr int32_t kMaxTokenId = (1 << 20) - 1;

  // Buffers of EncodeWord, reused from word to word; one for each thread that encodes.
  struct Scratch {
    struct Symbol {
      int32_t id;      // -1: merged into the one before
      int32_t merged;  // the token that this and the next one make; -1: none
      uint32_t prev;   // kNone at the ends
      uint32_t next;
    };
    // Merges to be done, as rank << 32 | position: the lowest is the next. Those of the word's bytes are sorted once; a
    // heap holds the ones that merging brings up.
    std::vector<Symbol> symbols;
    std::vector<uint64_t> first;
    std::vector<uint64_t> heap;
  };

  // Checks that ids are unique and in range and that merges refer to tokens of the vocabulary; what is wrong is
  // INVALID_ARGUMENT with the file and the key.
  static absl::StatusOr<BpeModel> Create(const BpeSpec& spec);

  // Appends the ids of one word of fewer than 2^32 - 1 bytes. In time n log n of its length.
  void EncodeWord(std::string_view word, Scratch& scratch, std::vector<int32_t>& ids) const;

  std::optional<int32_t> TokenId(std::string_view token) const;
  bool has_id(int32_t id) const { return id >= 0 && static_cast<size_t>(id) < used_ids_.size() && used_ids_[id]; }
  const absl::flat_hash_map<std::string, int32_t>& vocab() const { return vocab_; }

 private:
  struct Merged {
    uint32_t rank;
    int32_t id;
  };

  BpeModel() = default;
  absl::Status SetVocab(const BpeSpec& spec);
  absl::Status SetMerges(const BpeSpec& spec);
  absl::Status SetBytes(const BpeSpec& spec);
  const Merged* FindMerge(int32_t left, int32_t right) const;
  const Merged* SetMerged(uint32_t position, Scratch& scratch) const;
  void PushMerge(uint32_t position, Scratch& scratch) const;
  void SetSymbols(std::string_view word, Scratch& scratch) const;
  void MergeSymbols(Scratch& scratch) const;

  absl::flat_hash_map<std::string, int32_t> vocab_;
  std::vector<bool> used_ids_;                    // by id, up to the highest
  absl::flat_hash_map<uint64_t, Merged> merges_;  // by left id << 32 | right id
  std::vector<int32_t> merged_ids_;               // by rank
  std::array<int32_t, 256> byte_ids_;             // -1: no token; then unk_id_
  int32_t unk_id_ = -1;                           // -1: none
  bool fuse_unk_ = false;
  bool ignore_merges_ = false;
};

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_BPE_H_
